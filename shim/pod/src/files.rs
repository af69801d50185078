//! The files that a pod's containers share: `/etc/hostname`, `/etc/hosts`, `/etc/resolv.conf` and
//! `/dev/shm`.
//!
//! containerd's own sandbox controller creates them itself. With the Sandbox API the runtime does:
//! it creates them with the pod, in a folder of its own (containerd removes unknown files from its
//! folders when it restarts), and adds a mount of them to each container's spec at Create.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, MountBuilder, Spec};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::cri::{Dns, PodConfig, Scope};
use crate::error::PodError;

/// The size of a pod's `/dev/shm` in bytes, as with containerd.
const SHM_SIZE: u32 = 64 * 1024 * 1024;

/// The files in the folder, and their paths in containers. The last one is a folder.
const SHARED: [(&str, &str); 4] = [
    ("hostname", "/etc/hostname"),
    ("hosts", "/etc/hosts"),
    ("resolv.conf", "/etc/resolv.conf"),
    ("shm", SHM),
];
const SHM: &str = "/dev/shm";

/// The files of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFiles {
    folder: PathBuf,
}

impl PodFiles {
    /// Returns the files below `folder`, which is the pod's own.
    pub fn below(folder: &Path) -> Self {
        Self {
            folder: folder.join("files"),
        }
    }

    /// Returns the mount point of its `/dev/shm`. Record it before [`make`](Self::make): it must be
    /// unmounted if the host dies.
    pub fn mount_point(&self) -> PathBuf {
        self.folder.join("shm")
    }

    /// Creates the files. A pod that uses the node's IPC has the node's `/dev/shm`.
    ///
    /// # Errors
    /// If one cannot be created; [`remove`](Self::remove) then removes the others.
    pub fn make(&self, config: &PodConfig) -> Result<(), PodError> {
        let failed = |step: &'static str, path: &Path| {
            let path = path.display().to_string();
            move |source: io::Error| PodError::Step {
                step: format!("{step} {path}"),
                source,
            }
        };
        fs::create_dir_all(&self.folder).map_err(failed("make the pod's folder", &self.folder))?;
        let write = |name: &str, text: String| {
            let file = self.folder.join(name);
            fs::write(&file, text).map_err(failed("write the pod's file", &file))
        };
        let read = |file: &str| {
            fs::read_to_string(file).map_err(failed("read the node's file", Path::new(file)))
        };
        let hostname = if config.hostname.is_empty() {
            read("/proc/sys/kernel/hostname")?
        } else {
            format!("{}\n", config.hostname)
        };
        write("hostname", hostname)?;
        write("hosts", read("/etc/hosts")?)?;
        write(
            "resolv.conf",
            config
                .dns
                .as_ref()
                .map_or_else(|| read("/etc/resolv.conf"), |dns| Ok(resolv_conf(dns)))?,
        )?;
        let shm = self.mount_point();
        if config.ipc == Scope::Node {
            return symlink(SHM, &shm).map_err(failed("link the node's /dev/shm at", &shm));
        }
        fs::create_dir(&shm).map_err(failed("make the folder", &shm))?;
        let flags = MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::NODEV;
        let options = format!("mode=1777,size={SHM_SIZE}\0").into_bytes();
        let options =
            std::ffi::CStr::from_bytes_with_nul(&options).expect("the text ends in its only NUL");
        rustix::mount::mount("shm", &shm, "tmpfs", flags, options)
            .map_err(|errno| failed("mount the pod's /dev/shm at", &shm)(errno.into()))
    }

    /// Adds mounts of the files that a container's spec does not have yet, and returns whether it
    /// changed. Does nothing if containerd created the files.
    ///
    /// # Errors
    /// If the files cannot be accessed.
    pub fn complete(&self, spec: &mut Spec) -> Result<Completed, PodError> {
        let shared = |name: &str| fs::canonicalize(self.folder.join(name));
        let shm = match shared("shm") {
            Ok(shm) => shm,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Completed::Unchanged);
            }
            Err(source) => {
                return Err(PodError::Step {
                    step: format!("look at the pod's files in {}", self.folder.display()),
                    source,
                });
            }
        };
        let read_only = spec
            .root()
            .as_ref()
            .is_some_and(|root| root.readonly().unwrap_or_default());
        let mut mounts = spec.mounts().clone().unwrap_or_default();
        let before = mounts.clone();
        for (name, destination) in SHARED {
            let is_shm = destination == SHM;
            let source = if is_shm {
                shm.clone()
            } else {
                self.folder.join(name)
            };
            let wanted = bind(&source, destination, read_only && !is_shm);
            match mounts
                .iter_mut()
                .find(|mount| mount.destination() == Path::new(destination))
            {
                // The default mount of every container: a memory file system of its own.
                Some(mount) if is_shm && mount.typ().as_deref() == Some("tmpfs") => *mount = wanted,
                Some(_) => {}
                None => mounts.push(wanted),
            }
        }
        if mounts == before {
            return Ok(Completed::Unchanged);
        }
        spec.set_mounts(Some(mounts));
        Ok(Completed::Changed)
    }

    /// Removes the files, whether all, some or none exist. A container that still has them mounted
    /// keeps them.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn remove(&self) -> Result<(), PodError> {
        let failed = |source: io::Error| PodError::Step {
            step: format!("remove the pod's files {}", self.folder.display()),
            source,
        };
        match rustix::mount::unmount(
            self.mount_point(),
            UnmountFlags::DETACH | UnmountFlags::NOFOLLOW,
        ) {
            // It is not mounted, or does not exist.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        }
    }
}

/// The result of completing a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completed {
    /// Mounts were added.
    Changed,
    /// Nothing was added.
    Unchanged,
}

fn bind(source: &Path, destination: &str, read_only: bool) -> Mount {
    let access = if read_only { "ro" } else { "rw" };
    let options = ["rbind", "rprivate", access].map(str::to_owned).to_vec();
    let mount = MountBuilder::default()
        .source(source)
        .destination(destination)
        .typ("bind")
        .options(options)
        .build();
    mount.expect("a mount needs a destination alone")
}

/// Formats the name resolution for resolv.conf(5).
fn resolv_conf(dns: &Dns) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.extend(["search ", &dns.searches.join(" "), "\n"]);
    }
    for server in &dns.servers {
        text.extend(["nameserver ", server, "\n"]);
    }
    if !dns.options.is_empty() {
        text.extend(["options ", &dns.options.join(" "), "\n"]);
    }
    text
}

#[cfg(test)]
mod tests;
