//! What the runtime needs of the host's kernel, and whether it is there.
//!
//! An installer's container shares the host's kernel: what `/proc` shows of the kernel itself is
//! the host's.

use std::collections::BTreeSet;
use std::fs;
use std::io;

/// The oldest Linux that the runtime works on: the first that has `mount_setattr(2)`, by which it
/// makes mounts read-only. All else that it calls is older: `clone3` with `CLONE_INTO_CGROUP`
/// (5.7), `close_range` (5.9), `openat2` (5.6), pidfds (5.4).
const OLDEST: (u32, u32) = (5, 12);
/// The namespaces that a guest is put into, as `/proc/self/ns` names them.
const NAMESPACES: [&str; 5] = ["ipc", "mnt", "net", "pid", "uts"];

/// A host's kernel, as far as the runtime depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Its release, as `uname -r` prints it.
    pub release: String,
    /// The namespaces that it has.
    pub namespaces: BTreeSet<String>,
    /// Whether it filters system calls (`CONFIG_SECCOMP_FILTER`).
    pub filters: bool,
}

/// What the runtime misses in a kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelLack {
    /// It is older than 5.12.
    #[error(
        "the node's kernel is Linux {release}, and the runtime needs {}.{} or later: upgrade the \
         node's system, or leave the node out of \
         the pool (nodeSelector)",
        OLDEST.0, OLDEST.1
    )]
    TooOld {
        /// Its release.
        release: String,
    },
    /// Its release does not begin with two numbers.
    #[error("the node's kernel has the release {release:?}, which is not a version of Linux; the \
             runtime needs {}.{} or later", OLDEST.0, OLDEST.1)]
    NoVersion {
        /// Its release.
        release: String,
    },
    /// It was built without something.
    #[error(
        "the node's kernel (Linux {release}) has no {what}, which the runtime needs: use a kernel \
         that was built with it"
    )]
    Feature {
        /// Its release.
        release: String,
        /// What it was built without.
        what: String,
    },
}

impl Kernel {
    /// Reads what the kernel that this process runs on is.
    ///
    /// # Errors
    /// When `/proc` does not show it.
    pub fn running() -> io::Result<Self> {
        let namespaces = fs::read_dir("/proc/self/ns")?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        Ok(Self {
            release: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            namespaces: namespaces.collect::<io::Result<_>>()?,
            // The kernel has the line where it has filters.
            filters: fs::read_to_string("/proc/self/status")?
                .lines()
                .any(|line| line.starts_with("Seccomp:")),
        })
    }

    /// Decides whether the runtime works on it.
    ///
    /// # Errors
    /// The first thing that is missing.
    pub fn must_do(&self) -> Result<(), KernelLack> {
        let release = || self.release.clone();
        let mut numbers = self
            .release
            .split(|letter: char| !letter.is_ascii_digit())
            .map(str::parse::<u32>);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            return Err(KernelLack::NoVersion { release: release() });
        };
        if (major, minor) < OLDEST {
            return Err(KernelLack::TooOld { release: release() });
        }
        if let Some(name) = NAMESPACES
            .iter()
            .find(|name| !self.namespaces.contains(**name))
        {
            return Err(KernelLack::Feature {
                release: release(),
                what: format!("{name} namespaces"),
            });
        }
        if !self.filters {
            return Err(KernelLack::Feature {
                release: release(),
                what: "filters of system calls (CONFIG_SECCOMP_FILTER)".to_owned(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(release: &str) -> Kernel {
        Kernel {
            release: release.to_owned(),
            namespaces: NAMESPACES.map(str::to_owned).into(),
            filters: true,
        }
    }

    #[test]
    fn a_kernel_before_5_12_is_refused_with_the_version_that_is_needed() {
        for release in ["5.12.0", "5.15.0-1-amd64", "6.1", "6.18.44-fc", "10.0.1"] {
            assert_eq!(kernel(release).must_do(), Ok(()), "{release}");
        }
        for release in [
            "5.11.22",
            "5.10.0-28-amd64",
            "4.18.0-553.el8_10.x86_64",
            "3.10.0",
            "5.4.286",
        ] {
            let lack = kernel(release).must_do().unwrap_err();
            assert_eq!(
                lack,
                KernelLack::TooOld {
                    release: release.to_owned()
                }
            );
            assert!(lack.to_string().contains("needs 5.12 or later"), "{lack}");
        }
        for release in ["", "Linux", "6", "6.x"] {
            assert!(
                matches!(kernel(release).must_do(), Err(KernelLack::NoVersion { .. })),
                "{release}"
            );
        }
    }

    #[test]
    fn a_kernel_that_was_built_without_what_guests_need_is_refused_by_its_name() {
        let mut without = kernel("6.1.0");
        without.namespaces.remove("ipc");
        assert!(
            without
                .must_do()
                .unwrap_err()
                .to_string()
                .contains("ipc namespaces")
        );
        let unfiltered = Kernel {
            filters: false,
            ..kernel("6.1.0")
        };
        assert!(
            unfiltered
                .must_do()
                .unwrap_err()
                .to_string()
                .contains("CONFIG_SECCOMP_FILTER")
        );
    }

    #[test]
    fn the_kernel_of_this_machine_is_read() {
        let kernel = Kernel::running().unwrap();
        assert!(
            kernel
                .release
                .starts_with(|letter: char| letter.is_ascii_digit()),
            "{kernel:?}"
        );
        assert!(kernel.namespaces.contains("mnt"), "{kernel:?}");
    }
}
