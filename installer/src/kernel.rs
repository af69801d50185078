//! The features that the runtime needs of the node's kernel.
//!
//! Containers share the node's kernel: what `/proc` shows of the kernel in the installer's
//! container is true of the node.

use std::collections::BTreeSet;
use std::fs;
use std::io;

/// The oldest supported Linux: the first with `mount_setattr(2)`, which makes mounts read-only. All
/// other system calls are older: `clone3` with `CLONE_INTO_CGROUP` (5.7), `close_range` (5.9),
/// `openat2` (5.6), pidfds (5.4).
const MIN_VERSION: (u32, u32) = (5, 12);
/// The namespaces of a guest, as `/proc/self/ns` names them.
const NAMESPACES: [&str; 5] = ["ipc", "mnt", "net", "pid", "uts"];

/// The features of a node's kernel that the runtime depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The release, as `uname -r` prints it.
    pub release: String,
    /// The kinds of namespaces.
    pub namespaces: BTreeSet<String>,
    /// Whether it supports seccomp filters (`CONFIG_SECCOMP_FILTER`).
    pub filters: bool,
}

/// A feature that the kernel does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelLack {
    /// It is older than 5.12.
    #[error(
        "the node's kernel is Linux {release}, and the runtime needs {}.{} or later: upgrade the \
         node's system, or exclude the node from the pool (nodeSelector)",
        MIN_VERSION.0, MIN_VERSION.1
    )]
    TooOld {
        /// Its release.
        release: String,
    },
    /// Its release does not begin with two numbers.
    #[error("the node's kernel has the release {release:?}, which is not a version of Linux; the \
             runtime needs {}.{} or later", MIN_VERSION.0, MIN_VERSION.1)]
    NoVersion {
        /// Its release.
        release: String,
    },
    /// It was built without a feature.
    #[error(
        "the node's kernel (Linux {release}) has no {what}, which the runtime needs: use a kernel \
         that was built with it"
    )]
    Feature {
        /// Its release.
        release: String,
        /// The feature.
        what: String,
    },
}

impl Kernel {
    /// Reads the features of the running kernel.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn running() -> io::Result<Self> {
        let namespaces = fs::read_dir("/proc/self/ns")?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        Ok(Self {
            release: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            namespaces: namespaces.collect::<io::Result<_>>()?,
            // The line exists if the kernel supports filters.
            filters: fs::read_to_string("/proc/self/status")?
                .lines()
                .any(|line| line.starts_with("Seccomp:")),
        })
    }

    /// Checks that the runtime works on this kernel.
    ///
    /// # Errors
    /// The first feature that is missing.
    pub fn check_supported(&self) -> Result<(), KernelLack> {
        let release = || self.release.clone();
        let mut numbers = self
            .release
            .split(|letter: char| !letter.is_ascii_digit())
            .map(str::parse::<u32>);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            return Err(KernelLack::NoVersion { release: release() });
        };
        if (major, minor) < MIN_VERSION {
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
    fn kernel_before_5_12_is_refused_with_the_required_version() {
        for release in ["5.12.0", "5.15.0-1-amd64", "6.1", "6.18.44-fc", "10.0.1"] {
            assert_eq!(kernel(release).check_supported(), Ok(()), "{release}");
        }
        for release in [
            "5.11.22",
            "5.10.0-28-amd64",
            "4.18.0-553.el8_10.x86_64",
            "3.10.0",
            "5.4.286",
        ] {
            let lack = kernel(release).check_supported().unwrap_err();
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
                matches!(
                    kernel(release).check_supported(),
                    Err(KernelLack::NoVersion { .. })
                ),
                "{release}"
            );
        }
    }

    #[test]
    fn missing_kernel_feature_is_refused_by_its_name() {
        let mut without = kernel("6.1.0");
        without.namespaces.remove("ipc");
        assert!(
            without
                .check_supported()
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
                .check_supported()
                .unwrap_err()
                .to_string()
                .contains("CONFIG_SECCOMP_FILTER")
        );
    }

    #[test]
    fn running_kernel_has_a_release_and_namespaces() {
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
