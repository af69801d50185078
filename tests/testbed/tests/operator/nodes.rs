//! The state of a node: the files that an installer can reach, other changes of its system, and its
//! Node object.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::fixture::Fixture;
use crate::runtimes::NAME;

/// A file that marks the time of the recorded state: later changes are newer than it.
const MARK: &str = "/var/tmp/before-the-tests";

/// Digest, mode and path of each file, folder and link below the folders that an installer can
/// write to and that survive a restart of the node
/// (`installer_is_not_privileged_and_mounts_only_the_paths_of_its_table` checks which these are).
const FILES: &str = r#"cd / && find etc/containerd opt -xdev \( -type f -exec sh -c 'for f; do echo "$(sha256sum <"$f") $(stat -c %a "$f") $f"; done' _ {} + \) -o -type d -printf 'folder %m %p\n' -o -type l -printf 'link %p %l\n'"#;

/// Other files of the node's system that are newer than the mark. Left out are the kernel's file
/// systems, files that do not survive a restart, the data of kubelet, containerd and the pods in
/// `/var`, the files that Docker gives a node, and its network's configuration, which the testbed
/// writes again when a node returns.
const ELSEWHERE: &str = r"find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var -o -path /opt -o -path /etc/containerd -o -path /etc/cni -o -path /etc/hosts -o -path /etc/hostname -o -path /etc/resolv.conf \) -prune -o -cnewer ";

/// The part of a node's state that must be the same before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// Digest, mode and path of each file, and each folder.
    files: BTreeSet<String>,
    /// Paths that have changed since the mark was set.
    elsewhere: BTreeSet<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    taints: Vec<String>,
}

impl State {
    /// Describes what only one of the two has.
    pub(crate) fn difference(&self, now: &Self) -> String {
        let mut text = String::new();
        let differences = [
            ('-', self.files.difference(&now.files)),
            ('+', now.files.difference(&self.files)),
            ('*', now.elsewhere.difference(&self.elsewhere)),
        ];
        for (sign, lines) in differences {
            for line in lines {
                let _ = writeln!(text, "{sign} {line}");
            }
        }
        for (what, before, now) in [
            ("labels", &self.labels, &now.labels),
            ("annotations", &self.annotations, &now.annotations),
        ] {
            if before != now {
                let _ = writeln!(text, "{what} were {before:?}, are {now:?}");
            }
        }
        if self.taints != now.taints {
            let _ = writeln!(text, "taints were {:?}, are {:?}", self.taints, now.taints);
        }
        text
    }

    /// Returns whether the two have the same files, whatever their Node objects are.
    pub(crate) fn has_files_of(&self, other: &Self) -> bool {
        (&self.files, &self.elsewhere) == (&other.files, &other.elsewhere)
    }

    /// Returns digests, modes and paths of containerd's configuration alone.
    pub(crate) fn configuration(&self) -> Vec<&String> {
        self.files
            .iter()
            .filter(|line| line.contains(" etc/containerd"))
            .collect()
    }
}

/// Sets the mark: the present state of `node` is the one before.
pub(crate) fn mark(fixture: &Fixture, node: &str) -> Result<()> {
    fixture.cluster.in_node(node, &["touch", MARK]).done()
}

/// Returns the present state of `node`.
pub(crate) fn state(fixture: &Fixture, node: &str) -> Result<State> {
    let lines = |script: &str| -> Result<BTreeSet<String>> {
        Ok(fixture
            .cluster
            .in_node(node, &["sh", "-c", script])
            .text()?
            .lines()
            .map(str::to_owned)
            .collect())
    };
    let object = fixture.get(&format!("node/{node}"))?;
    let metadata = &object["metadata"];
    let taints = object["spec"]["taints"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mut annotations = texts(&metadata["annotations"]);
    // kubeadm writes them once; a Node object that was removed and returns lacks them.
    annotations.retain(|key, _| !key.starts_with("kubeadm."));
    Ok(State {
        files: lines(FILES)?,
        elsewhere: lines(&format!("{ELSEWHERE}{MARK} -print"))?,
        labels: texts(&metadata["labels"]),
        annotations,
        taints: taints.iter().map(Value::to_string).collect(),
    })
}

/// Checks that no installation was started on `node`: the operator has no object for it, its files
/// are unchanged, and containerd has been running since `start`.
pub(crate) fn check_untouched(fixture: &Fixture, node: &str, start: &str) -> Result<()> {
    ensure!(
        !fixture.exists(&format!("wasmruntimenode/{NAME}.{node}"))?,
        "{node} was begun"
    );
    let now = state(fixture, node)?;
    ensure!(
        now.has_files_of(fixture.before(node)),
        "{node} was changed:\n{}",
        fixture.before(node).difference(&now)
    );
    ensure!(
        containerd_start(fixture, node)? == start,
        "containerd was restarted on {node}"
    );
    Ok(())
}

fn texts(object: &Value) -> BTreeMap<String, String> {
    let entries = object.as_object().into_iter().flatten();
    entries
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

/// Returns the start time of the node's containerd, in a form that changes with each start.
pub(crate) fn containerd_start(fixture: &Fixture, node: &str) -> Result<String> {
    fixture
        .cluster
        .in_node(
            node,
            &[
                "systemctl",
                "show",
                "--property=ActiveEnterTimestampMonotonic",
                "containerd",
            ],
        )
        .text()
}

/// Returns the folder of the runtime that serves a pod's container, from containerd's records.
pub(crate) fn runtime_of(fixture: &Fixture, node: &str, container_id: &str) -> Result<String> {
    let id = container_id.trim_start_matches("containerd://");
    let folder = format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}");
    let path = fixture
        .cluster
        .in_node(node, &["cat", &format!("{folder}/shim-binary-path")])
        .text();
    path.with_context(|| format!("read which shim serves {id} on {node}"))
}

/// Returns whether a node is Ready.
pub(crate) fn is_ready(node: &Value) -> bool {
    ready_since(node).is_some()
}

/// Returns the time since which a node has been Ready without a break; none if it is not Ready.
pub(crate) fn ready_since(node: &Value) -> Option<String> {
    let mut conditions = node["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    let ready = conditions
        .find(|condition| condition["type"] == "Ready" && condition["status"] == "True")?;
    Some(
        ready["lastTransitionTime"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    )
}
