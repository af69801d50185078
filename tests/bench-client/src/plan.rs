//! The plan of a benchmark, and its samples.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The plan of a benchmark.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// Number of measured rounds.
    #[serde(default)]
    pub(crate) rounds: usize,
    /// Number of warm-up rounds before them.
    #[serde(default)]
    pub(crate) warm_up: usize,
    /// The subjects.
    pub(crate) subjects: Vec<Subject>,
    /// For containers per second: number of concurrent containers.
    #[serde(default)]
    pub(crate) in_flight: usize,
    /// For containers per second: duration of one subject's turn in seconds.
    #[serde(default)]
    pub(crate) turn: u64,
    /// For idle containers: the number of the first one, and the first number that is not started.
    #[serde(default)]
    pub(crate) numbers: (usize, usize),
    /// For pods: their parent cgroup.
    #[serde(default)]
    pub(crate) cgroup: String,
    /// For pods: their network.
    #[serde(default)]
    pub(crate) network: Network,
    /// For idle containers: whether they are in pods.
    #[serde(default)]
    pub(crate) form: Form,
}

/// A runtime with its workload.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subject {
    /// Its name in the samples.
    pub(crate) name: String,
    /// The shim's executable.
    #[serde(default)]
    pub(crate) shim: PathBuf,
    /// The template container of all others: created, and never started.
    #[serde(default)]
    pub(crate) template: String,
    /// CRI's handler.
    #[serde(default)]
    pub(crate) handler: String,
    /// The image of a pod's container.
    #[serde(default)]
    pub(crate) image: String,
    /// The arguments of a pod's container.
    #[serde(default)]
    pub(crate) words: Vec<String>,
    /// A command line; [`ID`] is replaced by a unique container id.
    #[serde(default)]
    pub(crate) command: Vec<String>,
}

/// Placeholder in a command line for the container's id.
pub(crate) const ID: &str = "@ID@";

/// The network of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Network {
    /// The machine's network.
    #[default]
    Node,
    /// A private network, set up by a network plugin.
    Pod,
}

/// The form of idle containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    /// Tasks of containerd.
    #[default]
    Task,
    /// A pod for each.
    Pod,
}

/// The values by subject and measurement, in the order of the rounds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Samples {
    all: BTreeMap<String, BTreeMap<&'static str, Vec<f64>>>,
}

impl Samples {
    /// Adds a value.
    pub(crate) fn add(&mut self, subject: &str, what: &'static str, value: f64) {
        self.all
            .entry(subject.to_owned())
            .or_default()
            .entry(what)
            .or_default()
            .push(value);
    }

    /// Adds a time, in milliseconds.
    pub(crate) fn time(&mut self, subject: &str, what: &'static str, time: Duration) {
        self.add(subject, what, time.as_secs_f64() * 1000.0);
    }
}

/// One subject's turn in a round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn<'a> {
    /// The subject.
    pub(crate) subject: &'a Subject,
    /// The number of the round, warm-up rounds included.
    pub(crate) round: usize,
    /// Whether it is measured.
    pub(crate) counts: bool,
}

impl Turn<'_> {
    /// Returns an id for its container.
    pub(crate) fn id(&self) -> String {
        format!("{}-{}", self.subject.name, self.round)
    }
}

impl Plan {
    /// Returns all turns in their order: each round begins with another subject.
    pub(crate) fn turns(&self) -> Vec<Turn<'_>> {
        let count = self.subjects.len();
        (0..self.warm_up + self.rounds)
            .flat_map(|round| (0..count).map(move |place| (round, (place + round) % count)))
            .map(|(round, subject)| Turn {
                subject: &self.subjects[subject],
                round,
                counts: round >= self.warm_up,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        serde_json::from_str(r#"{"rounds":2,"warm_up":1,"subjects":[{"name":"a"},{"name":"b"}]}"#)
            .unwrap()
    }

    #[test]
    fn subjects_take_turns_and_each_round_begins_with_another() {
        let plan = plan();
        let order: Vec<String> = plan.turns().iter().map(Turn::id).collect();
        assert_eq!(order, ["a-0", "b-0", "b-1", "a-1", "a-2", "b-2"]);
    }

    #[test]
    fn warm_up_rounds_are_not_measured() {
        let plan = plan();
        let counted: Vec<bool> = plan.turns().iter().map(|turn| turn.counts).collect();
        assert_eq!(counted, [false, false, true, true, true, true]);
    }

    #[test]
    fn samples_are_written_by_subject_and_measurement() {
        let mut samples = Samples::default();
        samples.time("runc", "create", Duration::from_micros(1500));
        samples.add("runc", "create", 2.0);
        assert_eq!(
            serde_json::to_string(&samples).unwrap(),
            r#"{"runc":{"create":[1.5,2.0]}}"#
        );
    }
}
