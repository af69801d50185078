//! The classes of tests, least powerful first, and the `cargo` commands that run them.

use std::fmt;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use testbed::command::Run;
use testbed::requirements;

use crate::setup;

/// A class of tests by what they may access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Class {
    /// Inside one process.
    Unit,
    /// Folders, other programs and the engine; and the examples in the documentation.
    Component,
    /// A real containerd: needs root.
    Node,
    /// An emulated machine with systemd and cgroup v2: needs root.
    Vm,
    /// A real kind cluster: needs root.
    Cluster,
}

/// The package with the test programs that are classes of their own.
const PROGRAMS: &str = "testbed";

impl Class {
    pub(super) const ALL: [Self; 5] = [
        Self::Unit,
        Self::Component,
        Self::Node,
        Self::Vm,
        Self::Cluster,
    ];

    /// Returns the arguments of each `cargo` command that runs a part of this class.
    pub(super) fn commands(self, filter: Option<&str>) -> Result<Vec<Vec<String>>> {
        let with_filter = |words: &[&str]| {
            let filter = filter.iter().flat_map(|filter| ["--", filter]);
            words
                .iter()
                .copied()
                .chain(filter)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let every = ["test", "--workspace", "--no-fail-fast"];
        Ok(match self {
            Self::Unit => {
                // Not `--bins`: that selects executables without tests too, and the host cannot be
                // executed outside its bundle.
                let targets = targets("bin")?;
                let named: Vec<&str> = targets
                    .iter()
                    .flat_map(|target| ["--bin", target])
                    .collect();
                // Tests that need root are marked `ignore`, and are counted as ignored without
                // root.
                let is_root = requirements::require_root_and_kernel("test --class unit").is_ok();
                let marked = if is_root {
                    &["--include-ignored"][..]
                } else {
                    &[]
                };
                let words = [&every[..], &["--lib"], &named, &["--"], marked].concat();
                vec![words.into_iter().chain(filter).map(str::to_owned).collect()]
            }
            Self::Component => {
                let targets = targets("test")?;
                let named: Vec<&str> = targets
                    .iter()
                    .flat_map(|target| ["--test", target])
                    .collect();
                let mut commands = vec![with_filter(&[&every[..], &["--doc"]].concat())];
                if !named.is_empty() {
                    commands.insert(0, with_filter(&[&every[..], &named].concat()));
                }
                commands
            }
            Self::Node | Self::Vm | Self::Cluster => {
                let programs = self.programs().iter();
                programs
                    .map(|program| with_filter(&["test", "--workspace", "--test", program]))
                    .collect()
            }
        })
    }

    /// Returns the test programs of this class, if it has its own.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Unit | Self::Component => &[],
            Self::Node => &["node", "installer_edges", "containerd_config"],
            Self::Vm => &["vm"],
            Self::Cluster => &["cluster", "operator"],
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unit => "unit",
            Self::Component => "component",
            Self::Node => "node",
            Self::Vm => "vm",
            Self::Cluster => "cluster",
        })
    }
}

/// Returns the workspace's targets of this kind that have tests and are not a class of their own.
fn targets(kind: &str) -> Result<Vec<String>> {
    let metadata = Run::new(cargo())
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(setup::repository())
        .text()?;
    targets_in(&metadata, kind)
}

/// Returns the `cargo` that runs this program, which is the pinned toolchain's.
pub(super) fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn targets_in(metadata: &str, wanted: &str) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        targets: Vec<Target>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
        test: bool,
    }
    let metadata: Metadata =
        serde_json::from_str(metadata).context("parse the output of cargo metadata")?;
    let mut names = Vec::new();
    for package in metadata.packages {
        for target in package
            .targets
            .into_iter()
            .filter(|target| target.test && target.kind.iter().any(|kind| kind == wanted))
        {
            let is_class = Class::ALL
                .iter()
                .any(|class| class.programs().contains(&target.name.as_str()));
            // cargo runs every program of a given name, and would run this one with the class.
            ensure!(
                !is_class || package.name == PROGRAMS,
                "{} has a test program of the name {:?}, which is that of a class of tests: rename \
                 it",
                package.name,
                target.name
            );
            if !is_class {
                names.push(target.name);
            }
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{"packages":[
        {"name":"testbed","targets":[{"name":"testbed","kind":["lib"],"test":true},{"name":"node","kind":["test"],"test":true},{"name":"cluster","kind":["test"],"test":true},{"name":"guests","kind":["test"],"test":true}]},
        {"name":"launcher","targets":[{"name":"launcher","kind":["bin"],"test":true},{"name":"host","kind":["bin"],"test":false}]},
        {"name":"shim","targets":[{"name":"create","kind":["test"],"test":true}]}]}"#;

    #[test]
    fn programs_of_classes_are_not_component_tests() {
        assert_eq!(targets_in(METADATA, "test").unwrap(), ["create", "guests"]);
    }

    #[test]
    fn program_with_the_name_of_a_class_is_refused() {
        let metadata = METADATA.replace(r#""name":"create""#, r#""name":"node""#);
        let error = targets_in(&metadata, "test").unwrap_err().to_string();
        assert!(error.contains("shim") && error.contains("node"), "{error}");
    }

    #[test]
    fn executable_without_tests_is_not_run() {
        assert_eq!(targets_in(METADATA, "bin").unwrap(), ["launcher"]);
    }

    #[test]
    fn filter_is_passed_to_the_test_program() {
        let commands = Class::Node.commands(Some("trap")).unwrap();
        let words = |program| ["test", "--workspace", "--test", program, "--", "trap"];
        assert_eq!(
            commands,
            [
                words("node"),
                words("installer_edges"),
                words("containerd_config")
            ]
        );
    }
}
