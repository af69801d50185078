//! Which of our crates may depend on which. Cargo.toml keeps the arrows; this keeps Cargo.toml.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::Finding;
use crate::setup;

/// Every arrow there may be, between packages of this workspace. The host stands on crates that know nothing of each other
/// but for what is listed; operator and installer know nothing of each other but what they tell each other. Tests may use
/// the test guests.
const ARROWS: &[Arrow] = &[
    Arrow { from: "containerd-shim-wasmedge", to: "container-cgroup", kind: Kind::Normal },
    Arrow { from: "containerd-shim-wasmedge", to: "container-io", kind: Kind::Normal },
    Arrow { from: "containerd-shim-wasmedge", to: "guest-sandbox", kind: Kind::Normal },
    Arrow { from: "containerd-shim-wasmedge", to: "host-reports", kind: Kind::Normal },
    Arrow { from: "containerd-shim-wasmedge", to: "native-container", kind: Kind::Normal },
    Arrow { from: "containerd-shim-wasmedge", to: "pod-sandbox", kind: Kind::Normal },
    Arrow { from: "containerd-shim-wasmedge", to: "shim-protocol", kind: Kind::Normal },
    Arrow { from: "containerd-shim-wasmedge", to: "test-guests", kind: Kind::Dev },
    Arrow { from: "container-cgroup", to: "systemd-client", kind: Kind::Normal },
    Arrow { from: "guest-sandbox", to: "container-cgroup", kind: Kind::Normal },
    Arrow { from: "native-container", to: "test-guests", kind: Kind::Dev },
    Arrow { from: "native-container", to: "testbed", kind: Kind::Dev },
    Arrow { from: "pod-sandbox", to: "container-cgroup", kind: Kind::Normal },
    Arrow { from: "pod-sandbox", to: "guest-sandbox", kind: Kind::Normal },
    Arrow { from: "pod-sandbox", to: "shim-protocol", kind: Kind::Normal },
    Arrow { from: "wasmedge-launcher", to: "shim-protocol", kind: Kind::Normal },
    Arrow { from: "wasmedge-operator", to: "installer-protocol", kind: Kind::Normal },
    Arrow { from: "wasmedge-operator", to: "fake-cluster", kind: Kind::Dev },
    Arrow { from: "wasmedge-operator", to: "testbed", kind: Kind::Dev },
    Arrow { from: "node-installer", to: "installer-protocol", kind: Kind::Normal },
    Arrow { from: "node-installer", to: "systemd-client", kind: Kind::Normal },
    Arrow { from: "fake-cluster", to: "installer-protocol", kind: Kind::Normal },
    Arrow { from: "generate", to: "installer-protocol", kind: Kind::Normal },
    Arrow { from: "generate", to: "node-installer", kind: Kind::Normal },
    Arrow { from: "generate", to: "shim-protocol", kind: Kind::Dev },
    Arrow { from: "generate", to: "wasmedge-operator", kind: Kind::Normal },
    Arrow { from: "bench-client", to: "cri-calls", kind: Kind::Normal },
    Arrow { from: "vm-inside", to: "cri-calls", kind: Kind::Normal },
    Arrow { from: "testbed", to: "cri-calls", kind: Kind::Dev },
    Arrow { from: "testbed", to: "test-guests", kind: Kind::Normal },
    Arrow { from: "testbed", to: "test-guests", kind: Kind::Dev },
    Arrow { from: "testbed", to: "installer-protocol", kind: Kind::Dev },
    Arrow { from: "testbed", to: "node-installer", kind: Kind::Dev },
    Arrow { from: "xtask", to: "testbed", kind: Kind::Normal },
    Arrow { from: "xtask", to: "test-guests", kind: Kind::Normal },
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arrow {
    from: &'static str,
    to: &'static str,
    kind: Kind,
}

/// What a dependency is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Normal,
    Dev,
    Build,
}

/// What cargo says of the packages.
#[derive(Debug, Deserialize)]
pub(super) struct Workspace {
    packages: Vec<Package>,
    workspace_root: String,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<Kind>,
}

#[derive(Debug, Deserialize)]
struct Target {
    src_path: String,
}

impl Workspace {
    pub(super) fn of_checkout() -> Result<Self> {
        let text = setup::cargo().args(["metadata", "--no-deps", "--format-version", "1"]).text()?;
        serde_json::from_str(&text).context("read what cargo metadata says")
    }

    /// The file that each target starts from, from the root of the repository.
    pub(super) fn roots(&self) -> Vec<String> {
        let targets = self.packages.iter().flat_map(|package| &package.targets);
        let relative = targets.filter_map(|target| Path::new(&target.src_path).strip_prefix(&self.workspace_root).ok());
        relative.map(|path| path.display().to_string()).collect()
    }

    pub(super) fn check_arrows(&self) -> Vec<Finding> {
        let ours = |name: &str| self.packages.iter().any(|package| package.name == name);
        let mut findings = Vec::new();
        for package in &self.packages {
            for dependency in package.dependencies.iter().filter(|dependency| ours(&dependency.name)) {
                let kind = dependency.kind.unwrap_or_default();
                let is_it = |arrow: &&Arrow| arrow.from == package.name && arrow.to == dependency.name && arrow.kind == kind;
                if !ARROWS.iter().any(|arrow| is_it(&arrow)) {
                    let what =
                        format!("must not depend on {} ({kind:?}): the arrows stand in xtask/src/tidy/workspace.rs", dependency.name);
                    findings.push(Finding::new(format_args!("package {}", package.name), what));
                }
            }
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(dependencies: &str) -> Workspace {
        let text = format!(
            r#"{{"workspace_root":"/here","packages":[
                {{"name":"containerd-shim-wasmedge","dependencies":[{dependencies}],"targets":[{{"src_path":"/here/shim/src/lib.rs"}}]}},
                {{"name":"test-guests","dependencies":[],"targets":[]}},{{"name":"testbed","dependencies":[],"targets":[]}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_product_depends_on_nothing_of_ours_but_for_its_tests() {
        let fine = r#"{"name":"anyhow","kind":null},{"name":"test-guests","kind":"dev"}"#;
        assert_eq!(workspace(fine).check_arrows(), []);
        for wrong in
            [r#"{"name":"test-guests","kind":null}"#, r#"{"name":"testbed","kind":"dev"}"#, r#"{"name":"test-guests","kind":"build"}"#]
        {
            assert_eq!(workspace(wrong).check_arrows().len(), 1, "{wrong}");
        }
    }

    #[test]
    fn roots_are_named_from_the_root_of_the_repository() {
        assert_eq!(workspace("").roots(), ["shim/src/lib.rs"]);
    }
}
