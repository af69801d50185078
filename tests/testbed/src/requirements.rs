//! Requirements for this machine, checked before anything starts. Errors name each missing thing
//! and its remedy.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::command::Run;
use crate::progress;

/// File systems that a demo or test run needs.
const FILE_SYSTEMS: &[&str] = &["overlay", "proc", "tmpfs"];

/// Fails with the remedy unless this process may do what `task` needs: root, namespaces, overlayfs,
/// cgroups.
///
/// # Errors
/// Fails if something is missing; the message names each missing thing and its remedy.
pub fn require_root_and_kernel(task: &str) -> Result<()> {
    let facts = MachineFacts::read()?;
    let missing = facts.missing();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "`cargo xtask {task}` cannot run on this machine:\n  - {}",
        missing.join("\n  - ")
    );
}

/// Facts about this machine.
#[derive(Debug, Clone)]
struct MachineFacts {
    root: bool,
    file_systems: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    cgroups: bool,
}

impl MachineFacts {
    fn read() -> Result<Self> {
        let file_systems =
            fs::read_to_string("/proc/filesystems").context("read /proc/filesystems")?;
        Ok(Self {
            root: nix::unistd::geteuid().is_root(),
            file_systems: file_systems
                .lines()
                .filter_map(|line| line.split_whitespace().next_back())
                .map(str::to_owned)
                .collect(),
            namespaces: ["pid", "mnt", "net", "ipc", "uts"]
                .into_iter()
                .filter(|ns| Path::new("/proc/self/ns").join(ns).exists())
                .map(str::to_owned)
                .collect(),
            cgroups: Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
                || Path::new("/sys/fs/cgroup/memory").exists(),
        })
    }

    fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if !self.root {
            missing.push(
                "it needs root (namespaces, mounts, containerd): run it as root, for example with \
                 `sudo -E env PATH=$PATH cargo xtask …`"
                    .to_owned(),
            );
        }
        for name in FILE_SYSTEMS
            .iter()
            .filter(|name| !self.file_systems.contains(**name))
        {
            missing.push(format!(
                "the kernel has no {name} file system: load it (`modprobe \
                                  {name}`) or use a kernel that has it"
            ));
        }
        for name in ["pid", "mnt", "net", "ipc", "uts"]
            .iter()
            .filter(|name| !self.namespaces.contains(**name))
        {
            missing.push(format!(
                "the kernel has no {name} namespaces: use a kernel with CONFIG_NAMESPACES"
            ));
        }
        if !self.cgroups {
            missing.push(
                "no cgroup hierarchy with a memory controller is mounted on \
                          /sys/fs/cgroup: mount cgroup2 there"
                    .to_owned(),
            );
        }
        missing
    }
}

/// Finds `program` on `PATH`, or in the system folders that a root shell may lack.
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ];
    std::env::split_paths(&path)
        .chain(system.iter().map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// A file that a Debian package provides.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// The Debian package.
    pub package: &'static str,
    /// A program on `PATH`, or an absolute path (one `*` in its last but one part is allowed), that
    /// the package provides.
    pub provides: &'static str,
}

impl Need {
    fn is_met(self) -> bool {
        if !self.provides.starts_with('/') {
            return find_program(self.provides).is_some();
        }
        let Some((before, after)) = self.provides.split_once('*') else {
            return Path::new(self.provides).exists();
        };
        let folder = Path::new(before).parent().unwrap_or(Path::new("/"));
        let prefix = Path::new(before)
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|_| !before.ends_with('/'))
            .unwrap_or_default();
        let folder = if before.ends_with('/') {
            Path::new(before)
        } else {
            folder
        };
        let Ok(entries) = fs::read_dir(folder) else {
            return false;
        };
        entries.flatten().any(|entry| {
            entry.file_name().to_string_lossy().starts_with(&prefix)
                && Path::new(&format!("{}{after}", entry.path().display())).exists()
        })
    }
}

/// Installs with apt the packages of those `needs` that are not met. If all are met, it does
/// nothing and needs no network.
///
/// # Errors
/// Fails if apt fails, or a need is still not met afterwards.
pub fn install(needs: &[Need]) -> Result<()> {
    let packages: BTreeSet<&str> = needs
        .iter()
        .filter(|need| !need.is_met())
        .map(|need| need.package)
        .collect();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.iter().copied().collect::<Vec<_>>().join(" ");
    if find_program("apt-get").is_none() {
        bail!("this machine has no apt-get: install {list} by hand, then run this again");
    }
    progress::step(format_args!("installed {list}"), || {
        let apt = || Run::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive");
        apt().args(["update", "-qq"]).done()?;
        apt()
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(&packages)
            .done()
    })?;
    if let Some(need) = needs.iter().find(|need| !need.is_met()) {
        bail!(
            "package {} is installed, but {} is missing",
            need.package,
            need.provides
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete_machine() -> MachineFacts {
        MachineFacts {
            root: true,
            file_systems: FILE_SYSTEMS.iter().map(|name| (*name).to_owned()).collect(),
            namespaces: ["pid", "mnt", "net", "ipc", "uts"]
                .map(str::to_owned)
                .into(),
            cgroups: true,
        }
    }

    #[test]
    fn complete_machine_lacks_nothing() {
        assert!(complete_machine().missing().is_empty());
    }

    #[test]
    fn each_missing_requirement_is_named_with_its_remedy() {
        let facts = MachineFacts {
            root: false,
            file_systems: BTreeSet::new(),
            cgroups: false,
            ..complete_machine()
        };
        let text = facts.missing().join("\n");
        for word in ["root", "modprobe overlay", "cgroup2"] {
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn need_matches_one_varying_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("llvm-14/lib")).unwrap();
        fs::write(folder.path().join("llvm-14/lib/libclang.so"), "").unwrap();
        let pattern = format!("{}/llvm-*/lib/libclang.so", folder.path().display());
        let need = Need {
            package: "x",
            provides: Box::leak(pattern.into_boxed_str()),
        };
        assert!(need.is_met());
        let need = Need {
            package: "x",
            provides: "/nowhere/llvm-*/lib/libclang.so",
        };
        assert!(!need.is_met());
    }
}
