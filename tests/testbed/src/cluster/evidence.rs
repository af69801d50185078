//! Evidence from a cluster for failures.

use super::Cluster;
use crate::command::{Run, last_lines};

/// Number of lines of each journal.
const JOURNAL_LINES: usize = 40;

impl Cluster {
    /// Returns pods, events and descriptions in `namespace` (all, unless given), then journals of
    /// nodes and the engine's log.
    pub fn evidence(&self, namespace: Option<&str>) -> String {
        let scope = match namespace {
            Some(name) => vec!["--namespace", name],
            None => vec!["--all-namespaces"],
        };
        let mut parts = vec![
            output_of("nodes", self.kubectl().args(["get", "nodes", "-o", "wide"])),
            output_of(
                "pods",
                self.kubectl()
                    .args(["get", "pods", "-o", "wide"])
                    .args(&scope),
            ),
            output_of(
                "events",
                self.kubectl()
                    .args(["get", "events", "--sort-by=.lastTimestamp"])
                    .args(&scope),
            ),
        ];
        if namespace.is_some() {
            parts.push(output_of(
                "descriptions",
                self.kubectl().args(["describe", "pods"]).args(&scope),
            ));
        }
        parts.extend(self.nodes.iter().map(|node| self.journal(node)));
        parts.push(self.engine.log_tail());
        parts.join("\n")
    }

    /// Returns the end of a node's journals: containerd's (with the shims'), then kubelet's.
    pub(super) fn journal(&self, node: &str) -> String {
        let lines = format!("--lines={JOURNAL_LINES}");
        let of = |unit: &str| {
            let journal = [
                "journalctl",
                "--no-pager",
                "--output=cat",
                &lines,
                "--unit",
                unit,
            ];
            output_of(
                &format!("journal of {unit} on {node}"),
                self.engine.in_node(node, &journal),
            )
        };
        format!("{}\n{}", of("containerd"), of("kubelet"))
    }
}

/// Returns a title and the program's output, or the error.
pub(super) fn output_of(title: &str, run: Run) -> String {
    let text = match run.output() {
        Ok(output) => format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => format!("{error:#}"),
    };
    format!("--- {title}\n{}", last_lines(&text, JOURNAL_LINES * 3))
}
