//! The files that a pod's containers share: `/etc/hostname`, `/etc/hosts`, `/etc/resolv.conf` and
//! `/dev/shm`.
//!
//! With containerd's own sandbox controller they are containerd's work. In the Sandbox API they are
//! the runtime's: they are made with the pod, in a folder of our own (containerd removes what it
//! does not know from its folders when it restarts), and each container's spec gets a mount of them
//! when it is created.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, MountBuilder, Spec};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::cri::{Dns, PodConfig, Scope};
use crate::error::PodError;

/// Size of a pod's `/dev/shm`, in bytes: what containerd gives one.
const SHM_SIZE: u32 = 64 * 1024 * 1024;

/// What lies in the folder, and where a container has it. The last one is a folder.
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
    /// Below `folder`, which is the pod's own.
    pub fn below(folder: &Path) -> Self {
        Self {
            folder: folder.join("files"),
        }
    }

    /// Where its `/dev/shm` is mounted. Write it down before [`make`](Self::make): it must be
    /// unmounted if we are not there.
    pub fn mount_point(&self) -> PathBuf {
        self.folder.join("shm")
    }

    /// Makes them. A pod that uses the node's IPC has the node's `/dev/shm`.
    ///
    /// # Errors
    /// When one cannot be made; [`remove`](Self::remove) then takes back what was.
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

    /// Gives a container of the pod what its spec does not have yet; says whether the spec has
    /// changed. Does nothing when containerd has made the files.
    ///
    /// # Errors
    /// When the files cannot be looked at.
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
                // What every container has that was not given another: a memory file system of its
                // own.
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

    /// Removes them, be they whole, in part or not there. A container that still has them keeps
    /// them.
    ///
    /// # Errors
    /// When one stays.
    pub fn remove(&self) -> Result<(), PodError> {
        let failed = |source: io::Error| PodError::Step {
            step: format!("remove the pod's files {}", self.folder.display()),
            source,
        };
        match rustix::mount::unmount(
            self.mount_point(),
            UnmountFlags::DETACH | UnmountFlags::NOFOLLOW,
        ) {
            // Not mounted, not there.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        }
    }
}

/// Whether a spec was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completed {
    /// It has mounts that it did not have.
    Changed,
    /// It is as it was.
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

/// As resolv.conf(5) has it.
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
