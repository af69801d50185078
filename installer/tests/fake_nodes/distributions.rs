//! Installations on the files of each distribution, `tests/nodes/<name>`: `node.toml` describes the
//! node, `before` has its files, and `after` has the files that an installation writes. All except
//! kind are made from documentation and were never run on the real distribution.
//! `UPDATE_GOLDEN=1` rewrites `after`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use installer_protocol::{Distribution, Outcome, Reason};
use serde::Deserialize;

use crate::fake_node::FakeNode;

#[derive(Deserialize)]
struct NodeTree {
    distribution: Distribution,
    containerd: String,
    unit: String,
    os: String,
}

fn node_trees() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nodes")
}

/// Returns the files below a folder by their relative paths.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = format!("/{}", path.strip_prefix(folder).unwrap().display());
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// Removes digests, which depend on the compression of an archive.
fn without_digests(text: &str, digest: &str) -> String {
    let text = text.replace(&digest[..12], "0123456789ab");
    let mut parts = text.split("sha256 ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        format!(
            "{text}sha256 …{}",
            part.trim_start_matches(|c: char| c.is_ascii_hexdigit())
        )
    })
}

/// Installs and removes on the node `name`, and compares its files.
fn golden(name: &str) {
    let folder = node_trees().join(name);
    let description: NodeTree =
        toml::from_str(&fs::read_to_string(folder.join("node.toml")).unwrap()).unwrap();
    let before = files(&folder.join("before"));
    let texts: Vec<(&str, &str)> = before
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let node = FakeNode::with(
        description.distribution,
        description.containerd.leak(),
        &description.unit,
        &texts,
    );
    fs::write(
        node.path("/usr/lib/os-release"),
        format!("ID={}\n", description.os),
    )
    .unwrap();
    let original = node.tree();

    let report = node.installed();
    let digest = report.installed.unwrap().sha256;
    let folders = description
        .distribution
        .layout()
        .mounts()
        .into_iter()
        .map(|mount| mount.path);
    let made = folders
        .filter(|path| {
            path.starts_with("/etc") || path.contains("/agent/etc") || path.ends_with("/args")
        })
        .flat_map(|folder| {
            let found = files(&node.path(&folder)).into_iter();
            found
                .map(|(path, text)| (format!("{folder}{path}"), without_digests(&text, &digest)))
                .collect::<Vec<_>>()
        });
    let after: BTreeMap<String, String> = made
        .filter(|(path, text)| before.get(path) != Some(text))
        .collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        let _ = fs::remove_dir_all(folder.join("after"));
        for (path, text) in &after {
            let place = folder.join(format!("after{path}"));
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, text).unwrap();
        }
    }
    assert_eq!(
        after,
        files(&folder.join("after")),
        "{name}: check the difference, then run this with UPDATE_GOLDEN=1"
    );
    node.installed();
    node.removed();
    node.tree().must_be(&original, name);
}

macro_rules! node_trees {
    ($($test:ident: $name:literal),* $(,)?) => {
        const NODE_TREES: &[&str] = &[$($name),*];
        $(#[test]
        fn $test() {
            golden($name);
        })*
    };
}

node_trees! {
    kind_gets_a_drop_in_of_schema_2: "kind",
    kubeadm_with_containerd_1_7_is_edited_in_place: "kubeadm-containerd-1.7",
    eks_on_amazon_linux_gets_a_drop_in_of_schema_3: "eks-al2023",
    aks_keeps_its_second_handler: "aks-ubuntu",
    gke_on_ubuntu_gets_a_drop_in_of_schema_2: "gke-ubuntu",
    k3s_gets_a_drop_in_in_the_folder_that_its_file_imports: "k3s",
    rke2_gets_a_drop_in_in_the_folder_that_its_file_imports: "rke2",
    k0s_gets_a_drop_in_and_restarts_by_itself: "k0s",
    microk8s_gets_its_template_edited: "microk8s",
}

#[test]
fn every_node_tree_has_a_test() {
    let mut names: Vec<String> = fs::read_dir(node_trees())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut tested: Vec<&str> = NODE_TREES.to_vec();
    tested.sort_unstable();
    assert_eq!(names, tested);
}

#[test]
fn unsupported_distribution_is_refused_and_not_changed() {
    for distribution in [
        Distribution::Talos,
        Distribution::Bottlerocket,
        Distribution::ContainerOptimized,
        Distribution::OtherRuntime,
    ] {
        let mut node = FakeNode::new();
        node.request.distribution = distribution;
        let before = node.tree();
        let report = node.install();
        assert_eq!(
            (report.outcome, report.reason),
            (Outcome::Refused, Reason::Unsupported),
            "{distribution:?}: {}",
            report.message
        );
        node.tree().must_be(&before, "after the refusal");
    }
}

#[test]
fn system_that_the_operator_misdetected_is_refused_by_its_own_name() {
    for (os, reason) in [
        ("cos", Reason::Unsupported),
        ("bottlerocket", Reason::Unsupported),
        ("talos", Reason::DistributionMismatch),
    ] {
        let node = FakeNode::new();
        fs::write(node.path("/usr/lib/os-release"), format!("ID={os}\n")).unwrap();
        let before = node.tree();
        let report = node.install();
        assert_eq!(
            (report.outcome, report.reason),
            (Outcome::Refused, reason),
            "{os}: {}",
            report.message
        );
        node.tree().must_be(&before, "after the refusal");
    }
}
