//! What a cluster can tell when something did not come to pass.

use super::Cluster;
use crate::command::{Run, last_lines};

/// How much of each journal is shown.
const LINES: usize = 40;

impl Cluster {
    /// Pods, events and descriptions in `namespace` (all, unless given), then what nodes and engine
    /// say.
    pub fn evidence(&self, namespace: Option<&str>) -> String {
        let scope = match namespace {
            Some(name) => vec!["--namespace", name],
            None => vec!["--all-namespaces"],
        };
        let mut parts = vec![
            said("nodes", self.kubectl().args(["get", "nodes", "-o", "wide"])),
            said(
                "pods",
                self.kubectl()
                    .args(["get", "pods", "-o", "wide"])
                    .args(&scope),
            ),
            said(
                "events",
                self.kubectl()
                    .args(["get", "events", "--sort-by=.lastTimestamp"])
                    .args(&scope),
            ),
        ];
        if namespace.is_some() {
            parts.push(said(
                "descriptions",
                self.kubectl().args(["describe", "pods"]).args(&scope),
            ));
        }
        parts.extend(self.nodes.iter().map(|node| self.journal(node)));
        parts.push(self.engine.last_words());
        parts.join("\n")
    }

    /// The end of a node's journals: containerd's (and the shims'), then kubelet's.
    pub(super) fn journal(&self, node: &str) -> String {
        let lines = format!("--lines={LINES}");
        let of = |unit: &str| {
            let journal = [
                "journalctl",
                "--no-pager",
                "--output=cat",
                &lines,
                "--unit",
                unit,
            ];
            said(
                &format!("journal of {unit} on {node}"),
                self.engine.in_node(node, &journal),
            )
        };
        format!("{}\n{}", of("containerd"), of("kubelet"))
    }
}

/// A title and what the program printed, or why it could not.
pub(super) fn said(title: &str, run: Run) -> String {
    let text = match run.output() {
        Ok(output) => format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => format!("{error:#}"),
    };
    format!("--- {title}\n{}", last_lines(&text, LINES * 3))
}
