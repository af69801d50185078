//! Every state of nodes that the API server reports, in its order; polling could miss some.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use testbed::wait;

use crate::fixture::{CHANGE_TIMEOUT, Fixture};

/// The fields of each state. Times are in UTC, so that the earlier one is the smaller text.
const COLUMNS: &str = r#"{.spec.node} {.status.phase} {.status.since} {.status.reason}{"\n"}"#;

/// A state of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObservedState {
    pub(crate) node: String,
    pub(crate) phase: String,
    /// The time since which the node has been in this state.
    pub(crate) since: String,
    pub(crate) reason: String,
}

/// A watch of all `WasmRuntimeNode`s until it is dropped.
pub(crate) struct Watch {
    kubectl: Child,
    seen: Arc<Mutex<Vec<ObservedState>>>,
}

/// The start and end of a node's change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) node: String,
    began: String,
    ended: String,
}

impl Watch {
    /// Starts with the objects' present states.
    pub(crate) fn start(fixture: &Fixture) -> Result<Self> {
        let cluster = &fixture.cluster;
        let mut kubectl = Command::new(cluster.kubectl_program())
            .arg("--kubeconfig")
            .arg(cluster.kubeconfig())
            .args([
                "get",
                "wasmruntimenodes",
                "--watch",
                &format!("--output=jsonpath={COLUMNS}"),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start kubectl get --watch")?;
        let output = kubectl.stdout.take().context("the pipe from kubectl")?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let filled = Arc::clone(&seen);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                filled
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(ObservedState::parse(&line));
            }
        });
        Ok(Self { kubectl, seen })
    }

    /// Returns all states so far.
    pub(crate) fn seen(&self) -> Vec<ObservedState> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until `found` returns a value for the states so far.
    pub(crate) fn wait_for<T>(
        &self,
        fixture: &Fixture,
        what: &str,
        mut found: impl FnMut(&[ObservedState]) -> Option<T>,
    ) -> Result<T> {
        let evidence = || {
            format!(
                "{:#?}\n{}",
                self.seen(),
                fixture.cluster.operator_evidence()
            )
        };
        wait::until(
            format_args!("the watch to report {what}"),
            CHANGE_TIMEOUT,
            || Ok(found(&self.seen())),
            evidence,
        )
    }

    /// Waits until `count` nodes have been changed, and returns their changes in the order of their
    /// ends. Fails if a node was started before the previous one was done, by their times: one
    /// decision of the operator ends the one and starts the other, and its two writes may be
    /// reported in either order.
    pub(crate) fn one_by_one(&self, fixture: &Fixture, count: usize) -> Result<Vec<Change>> {
        let changes = self.wait_for(fixture, &format!("{count} changed nodes"), |seen| {
            Some(changes(seen)).filter(|all| all.len() == count)
        })?;
        for pair in changes.windows(2) {
            ensure!(
                pair[0].ended <= pair[1].began,
                "{} was started before {} was done: {changes:?}",
                pair[1].node,
                pair[0].node
            );
        }
        Ok(changes)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A watch that has already ended is not an error.
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}

impl ObservedState {
    fn parse(line: &str) -> Self {
        let mut fields = line.split(' ').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        Self {
            node: next(),
            phase: next(),
            since: next(),
            reason: next(),
        }
    }
}

/// Returns each change of a node from the start of an installer to being Ready.
fn changes(seen: &[ObservedState]) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    let mut open: Vec<(String, String)> = Vec::new();
    for ObservedState {
        node, phase, since, ..
    } in seen
    {
        let at = open.iter().position(|(name, _)| name == node);
        match (phase.as_str(), at) {
            ("Installing", None) => open.push((node.clone(), since.clone())),
            ("Ready", Some(at)) => {
                let (node, began) = open.remove(at);
                changes.push(Change {
                    node,
                    began,
                    ended: since.clone(),
                });
            }
            _ => {}
        }
    }
    changes
}
