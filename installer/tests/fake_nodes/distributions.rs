//! Distributions as trees of files, `tests/hosts/<name>`: `host.toml` says what the host is,
//! `before` holds its files, `after` those that an installation makes of them. All but kind are
//! made after their documentation and were never run on the real distribution. `UPDATE_GOLDEN=1`
//! writes `after` anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use installer_protocol::{Distribution, Outcome, Reason};
use serde::Deserialize;

use crate::fake_node::FakeNode;

#[derive(Deserialize)]
struct Host {
    distribution: Distribution,
    containerd: String,
    unit: String,
    os: String,
}

fn hosts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts")
}

/// The files below a folder, by their paths from it.
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

/// Digests depend on how an archive was compressed.
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

/// Installs and removes on the host `name`, and compares what is made of its files.
fn golden(name: &str) {
    let folder = hosts().join(name);
    let host: Host =
        toml::from_str(&fs::read_to_string(folder.join("host.toml")).unwrap()).unwrap();
    let before = files(&folder.join("before"));
    let texts: Vec<(&str, &str)> = before
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let node = FakeNode::with(
        host.distribution,
        host.containerd.leak(),
        &host.unit,
        &texts,
    );
    fs::write(
        node.path("/usr/lib/os-release"),
        format!("ID={}\n", host.os),
    )
    .unwrap();
    let original = node.tree();

    let report = node.installed();
    let digest = report.installed.unwrap().sha256;
    let folders = host
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
        "{name}: see that it is meant, then run this with UPDATE_GOLDEN=1"
    );
    node.installed();
    node.removed();
    node.tree().must_be(&original, name);
}

macro_rules! hosts {
    ($($test:ident: $name:literal),* $(,)?) => {
        const HOSTS: &[&str] = &[$($name),*];
        $(#[test]
        fn $test() {
            golden($name);
        })*
    };
}

hosts! {
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
fn every_tree_is_a_test() {
    let mut names: Vec<String> = fs::read_dir(hosts())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut tested: Vec<&str> = HOSTS.to_vec();
    tested.sort_unstable();
    assert_eq!(names, tested);
}

#[test]
fn a_distribution_that_cannot_be_changed_is_refused_untouched() {
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
fn a_system_that_the_operator_took_for_another_is_refused_by_its_own_name() {
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
