//! The allowed dependencies between our crates, and workspace dependencies without a user.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::Finding;
use super::tree::Tree;
use crate::setup;

/// The workspace's manifest, from the root of the repository.
const MANIFEST: &str = "Cargo.toml";

/// All allowed dependencies between packages of this workspace. Crates below the host do not depend
/// on each other except as listed; operator and installer share only their protocol. Tests may use
/// the test guests.
const ARROWS: &[Arrow] = &[
    Arrow {
        from: "artifact-admin",
        to: "artifact-store",
        kind: Kind::Normal,
    },
    Arrow {
        from: "artifact-admin",
        to: "runtime-options",
        kind: Kind::Normal,
    },
    Arrow {
        from: "artifact-store",
        to: "failures",
        kind: Kind::Normal,
    },
    Arrow {
        from: "wasmedge-host",
        to: "guest-compiler",
        kind: Kind::Normal,
    },
    Arrow {
        from: "guest-compiler",
        to: "container-cgroup",
        kind: Kind::Normal,
    },
    Arrow {
        from: "guest-compiler",
        to: "failures",
        kind: Kind::Normal,
    },
    Arrow {
        from: "guest-compiler",
        to: "process-forker",
        kind: Kind::Normal,
    },
    Arrow {
        from: "guest-compiler",
        to: "runtime-options",
        kind: Kind::Normal,
    },
    Arrow {
        from: "compile-helper",
        to: "guest-compiler",
        kind: Kind::Normal,
    },
    Arrow {
        from: "compile-helper",
        to: "wasmtime-engine",
        kind: Kind::Normal,
    },
    Arrow {
        from: "compile-helper",
        to: "container-cgroup",
        kind: Kind::Dev,
    },
    Arrow {
        from: "compile-helper",
        to: "process-forker",
        kind: Kind::Dev,
    },
    Arrow {
        from: "compile-helper",
        to: "runtime-options",
        kind: Kind::Dev,
    },
    Arrow {
        from: "wasmedge-host",
        to: "artifact-store",
        kind: Kind::Normal,
    },
    Arrow {
        from: "wasmedge-host",
        to: "failures",
        kind: Kind::Normal,
    },
    Arrow {
        from: "container-cgroup",
        to: "failures",
        kind: Kind::Normal,
    },
    Arrow {
        from: "container-io",
        to: "failures",
        kind: Kind::Normal,
    },
    Arrow {
        from: "guest-sandbox",
        to: "failures",
        kind: Kind::Normal,
    },
    Arrow {
        from: "host-reports",
        to: "failures",
        kind: Kind::Normal,
    },
    Arrow {
        from: "native-container",
        to: "failures",
        kind: Kind::Normal,
    },
    Arrow {
        from: "pod-sandbox",
        to: "failures",
        kind: Kind::Normal,
    },
    Arrow {
        from: "wasmedge-host",
        to: "container-cgroup",
        kind: Kind::Normal,
    },
    Arrow {
        from: "wasmedge-host",
        to: "container-io",
        kind: Kind::Normal,
    },
    Arrow {
        from: "wasmedge-host",
        to: "guest-sandbox",
        kind: Kind::Normal,
    },
    Arrow {
        from: "wasmedge-host",
        to: "host-reports",
        kind: Kind::Normal,
    },
    Arrow {
        from: "wasmedge-host",
        to: "native-container",
        kind: Kind::Normal,
    },
    Arrow {
        from: "wasmedge-host",
        to: "pod-sandbox",
        kind: Kind::Normal,
    },
    Arrow {
        from: "wasmedge-host",
        to: "process-forker",
        kind: Kind::Normal,
    },
    Arrow {
        from: "wasmedge-host",
        to: "shim-protocol",
        kind: Kind::Normal,
    },
    Arrow {
        from: "wasmedge-host",
        to: "runtime-options",
        kind: Kind::Normal,
    },
    Arrow {
        from: "containerd-shim-wasmedge-v1",
        to: "runtime-options",
        kind: Kind::Normal,
    },
    Arrow {
        from: "shim-protocol",
        to: "runtime-options",
        kind: Kind::Normal,
    },
    Arrow {
        from: "container-cgroup",
        to: "runtime-options",
        kind: Kind::Normal,
    },
    Arrow {
        from: "installer-protocol",
        to: "runtime-options",
        kind: Kind::Normal,
    },
    Arrow {
        from: "node-installer",
        to: "runtime-options",
        kind: Kind::Normal,
    },
    Arrow {
        from: "wasmedge-operator",
        to: "runtime-options",
        kind: Kind::Normal,
    },
    Arrow {
        from: "wasmedge-host",
        to: "test-guests",
        kind: Kind::Dev,
    },
    Arrow {
        from: "container-cgroup",
        to: "systemd-client",
        kind: Kind::Normal,
    },
    Arrow {
        from: "guest-sandbox",
        to: "container-cgroup",
        kind: Kind::Normal,
    },
    Arrow {
        from: "guest-sandbox",
        to: "process-forker",
        kind: Kind::Normal,
    },
    Arrow {
        from: "process-forker",
        to: "failures",
        kind: Kind::Normal,
    },
    Arrow {
        from: "native-container",
        to: "process-forker",
        kind: Kind::Normal,
    },
    Arrow {
        from: "native-container",
        to: "test-guests",
        kind: Kind::Dev,
    },
    Arrow {
        from: "native-container",
        to: "testbed",
        kind: Kind::Dev,
    },
    Arrow {
        from: "pod-sandbox",
        to: "container-cgroup",
        kind: Kind::Normal,
    },
    Arrow {
        from: "pod-sandbox",
        to: "guest-sandbox",
        kind: Kind::Normal,
    },
    Arrow {
        from: "pod-sandbox",
        to: "shim-protocol",
        kind: Kind::Normal,
    },
    Arrow {
        from: "containerd-shim-wasmedge-v1",
        to: "shim-protocol",
        kind: Kind::Normal,
    },
    Arrow {
        from: "wasmedge-operator",
        to: "installer-protocol",
        kind: Kind::Normal,
    },
    Arrow {
        from: "wasmedge-operator",
        to: "fake-cluster",
        kind: Kind::Dev,
    },
    Arrow {
        from: "wasmedge-operator",
        to: "testbed",
        kind: Kind::Dev,
    },
    Arrow {
        from: "node-installer",
        to: "installer-protocol",
        kind: Kind::Normal,
    },
    Arrow {
        from: "node-installer",
        to: "cri-client",
        kind: Kind::Normal,
    },
    Arrow {
        from: "node-installer",
        to: "systemd-client",
        kind: Kind::Normal,
    },
    Arrow {
        from: "fake-cluster",
        to: "installer-protocol",
        kind: Kind::Normal,
    },
    Arrow {
        from: "generate",
        to: "installer-protocol",
        kind: Kind::Normal,
    },
    Arrow {
        from: "generate",
        to: "node-installer",
        kind: Kind::Normal,
    },
    Arrow {
        from: "generate",
        to: "runtime-options",
        kind: Kind::Normal,
    },
    Arrow {
        from: "generate",
        to: "wasmedge-operator",
        kind: Kind::Normal,
    },
    Arrow {
        from: "bench-client",
        to: "cri-client",
        kind: Kind::Normal,
    },
    Arrow {
        from: "vm-inside",
        to: "cri-client",
        kind: Kind::Normal,
    },
    Arrow {
        from: "testbed",
        to: "runtime-options",
        kind: Kind::Dev,
    },
    Arrow {
        from: "testbed",
        to: "cri-client",
        kind: Kind::Dev,
    },
    Arrow {
        from: "testbed",
        to: "test-guests",
        kind: Kind::Normal,
    },
    Arrow {
        from: "testbed",
        to: "test-guests",
        kind: Kind::Dev,
    },
    Arrow {
        from: "testbed",
        to: "installer-protocol",
        kind: Kind::Dev,
    },
    Arrow {
        from: "testbed",
        to: "node-installer",
        kind: Kind::Dev,
    },
    Arrow {
        from: "xtask",
        to: "testbed",
        kind: Kind::Normal,
    },
    Arrow {
        from: "xtask",
        to: "test-guests",
        kind: Kind::Normal,
    },
    Arrow {
        from: "wasmedge-host",
        to: "wasmtime-engine",
        kind: Kind::Normal,
    },
    Arrow {
        from: "wasmedge-host",
        to: "wasmtime-engine",
        kind: Kind::Dev,
    },
    Arrow {
        from: "wasmtime-engine",
        to: "failures",
        kind: Kind::Normal,
    },
    Arrow {
        from: "wasmtime-engine",
        to: "guest-sandbox",
        kind: Kind::Dev,
    },
    Arrow {
        from: "wasmtime-engine",
        to: "process-forker",
        kind: Kind::Dev,
    },
    Arrow {
        from: "wasmtime-engine",
        to: "test-guests",
        kind: Kind::Dev,
    },
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arrow {
    from: &'static str,
    to: &'static str,
    kind: Kind,
}

/// The kind of a dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Normal,
    Dev,
    Build,
}

/// The packages as cargo lists them.
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
    /// Its key in Cargo.toml, if that is not the package's name.
    rename: Option<String>,
    kind: Option<Kind>,
}

/// The list of dependencies in the workspace's manifest.
#[derive(Debug, Deserialize)]
struct Manifest {
    workspace: Dependencies,
}

#[derive(Debug, Deserialize)]
struct Dependencies {
    dependencies: BTreeMap<String, toml::Value>,
}

#[derive(Debug, Deserialize)]
struct Target {
    src_path: String,
}

impl Workspace {
    pub(super) fn of_checkout() -> Result<Self> {
        let text = setup::cargo()
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .text()?;
        serde_json::from_str(&text).context("parse the output of cargo metadata")
    }

    /// Returns the file that each target starts from, from the root of the repository.
    pub(super) fn roots(&self) -> Vec<String> {
        let targets = self.packages.iter().flat_map(|package| &package.targets);
        let relative = targets.filter_map(|target| {
            Path::new(&target.src_path)
                .strip_prefix(&self.workspace_root)
                .ok()
        });
        relative.map(|path| path.display().to_string()).collect()
    }

    pub(super) fn check_arrows(&self) -> Vec<Finding> {
        let ours = |name: &str| self.packages.iter().any(|package| package.name == name);
        let mut findings = Vec::new();
        for package in &self.packages {
            for dependency in package
                .dependencies
                .iter()
                .filter(|dependency| ours(&dependency.name))
            {
                let kind = dependency.kind.unwrap_or_default();
                let is_it = |arrow: &&Arrow| {
                    arrow.from == package.name && arrow.to == dependency.name && arrow.kind == kind
                };
                if !ARROWS.iter().any(|arrow| is_it(&arrow)) {
                    let what = format!(
                        "must not depend on {} ({kind:?}): the arrows stand in \
                         xtask/src/tidy/workspace.rs",
                        dependency.name
                    );
                    findings.push(Finding::new(format_args!("package {}", package.name), what));
                }
            }
        }
        findings
    }

    /// Finds workspace dependencies that no member uses: each is a version to maintain without a
    /// benefit.
    ///
    /// # Errors
    /// If the workspace's manifest cannot be read.
    pub(super) fn check_unused(&self, tree: &Tree) -> Result<Vec<Finding>> {
        let mut manifests = tree.texts().filter(|(path, _)| *path == MANIFEST);
        let (_, text) = manifests
            .next()
            .with_context(|| format!("find {MANIFEST} in the checkout"))?;
        let manifest: Manifest =
            toml::from_str(text).with_context(|| format!("read the dependencies in {MANIFEST}"))?;
        let dependencies = self
            .packages
            .iter()
            .flat_map(|package| &package.dependencies);
        let used: BTreeSet<&str> = dependencies
            .map(|dependency| {
                dependency
                    .rename
                    .as_ref()
                    .unwrap_or(&dependency.name)
                    .as_str()
            })
            .collect();
        let unused = manifest
            .workspace
            .dependencies
            .keys()
            .filter(|name| !used.contains(name.as_str()));
        Ok(unused
            .map(|name| {
                Finding::new(
                    MANIFEST,
                    format_args!("no member uses the workspace dependency {name}: remove it"),
                )
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(dependencies: &str) -> Workspace {
        let text = format!(
            r#"{{"workspace_root":"/here","packages":[
                {{"name":"wasmedge-host","dependencies":[{dependencies}],"targets":[{{"src_path":"/here/shim/src/lib.rs"}}]}},
                {{"name":"test-guests","dependencies":[],"targets":[]}},{{"name":"testbed","dependencies":[],"targets":[]}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn product_depends_on_test_crates_only_in_tests() {
        let fine = r#"{"name":"anyhow","kind":null},{"name":"test-guests","kind":"dev"}"#;
        assert_eq!(workspace(fine).check_arrows(), []);
        for wrong in [
            r#"{"name":"test-guests","kind":null}"#,
            r#"{"name":"testbed","kind":"dev"}"#,
            r#"{"name":"test-guests","kind":"build"}"#,
        ] {
            assert_eq!(workspace(wrong).check_arrows().len(), 1, "{wrong}");
        }
    }

    #[test]
    fn workspace_dependency_without_a_user_is_found() {
        let workspace = workspace(
            r#"{"name":"anyhow","kind":null},{"name":"nix","rename":"old-nix","kind":"dev"}"#,
        );
        let found = |manifest: &str| workspace.check_unused(&Tree::of(&[("Cargo.toml", manifest)]));
        let used = "[workspace.dependencies]\nanyhow = \"1\"\nold-nix = \
                    { version = \"0.1\", package = \"nix\" }\n";
        assert_eq!(found(used).unwrap(), []);
        let unused = found(&format!("{used}zygote = \"0.1\"\n")).unwrap();
        assert_eq!(unused.len(), 1, "{unused:?}");
        assert!(unused[0].what.contains("zygote"), "{unused:?}");
        found("[workspace]\n").unwrap_err();
    }

    #[test]
    fn target_roots_are_relative_to_the_repository() {
        assert_eq!(workspace("").roots(), ["shim/src/lib.rs"]);
    }
}
