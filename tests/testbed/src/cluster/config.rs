//! kind's configuration: the project's file, and additions for this project's node image and this
//! machine.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Result, bail};

/// The file that users pass to kind unchanged.
pub(super) const FILE: &str = include_str!("../../../../kind-config.yaml");

/// The cgroup version of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cgroups {
    /// One hierarchy per controller.
    V1,
    /// One hierarchy.
    V2,
}

impl Cgroups {
    /// Returns the version on this machine.
    pub(super) fn of_machine() -> Self {
        if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            Self::V2
        } else {
            Self::V1
        }
    }
}

/// Returns the configuration for this project's node image on this machine: `file` with additions.
///
/// They are appended as text, so `file` must not have the same keys: the file for users stays
/// simple.
pub(super) fn with_additions(file: &str, address: Ipv4Addr, cgroups: Cgroups) -> Result<String> {
    for key in ["networking", "kubeadmConfigPatches"] {
        if file.lines().any(|line| line.starts_with(key)) {
            bail!(
                "kind-config.yaml sets {key}, which the harness sets too: merge the two in \
                 testbed::cluster"
            );
        }
    }
    // kubelet does not support cgroup v1 any more and needs an explicit opt-in.
    let v1 = match cgroups {
        Cgroups::V1 => "\n  failCgroupV1: false",
        Cgroups::V2 => "",
    };
    Ok(format!(
        "{file}
# Our node image brings no network plugin; the harness sets up one.
networking:
  disableDefaultCNI: true
  apiServerAddress: \"{address}\"
kubeadmConfigPatches:
- |
  kind: KubeletConfiguration
  cgroupDriver: cgroupfs{v1}
"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_file_accepts_the_additions() {
        let text = with_additions(FILE, Ipv4Addr::new(169, 254, 7, 2), Cgroups::V1).unwrap();
        assert!(
            text.starts_with(FILE)
                && text.contains("failCgroupV1: false")
                && text.contains("\"169.254.7.2\""),
            "{text}"
        );
    }

    #[test]
    fn cgroup_v2_needs_no_opt_in() {
        assert!(
            !with_additions(FILE, Ipv4Addr::LOCALHOST, Cgroups::V2)
                .unwrap()
                .contains("failCgroupV1")
        );
    }

    #[test]
    fn duplicate_key_of_file_and_additions_is_an_error() {
        assert!(with_additions("networking:\n  x: y\n", Ipv4Addr::LOCALHOST, Cgroups::V2).is_err());
    }
}
