//! What is to be timed, and what came of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is to be timed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// How many rounds count.
    #[serde(default)]
    pub(crate) rounds: usize,
    /// How many rounds go before them and do not count.
    #[serde(default)]
    pub(crate) warm_up: usize,
    /// Who takes part.
    pub(crate) subjects: Vec<Subject>,
    /// For containers per second: how many are under way at once.
    #[serde(default)]
    pub(crate) in_flight: usize,
    /// For containers per second: how long one subject's turn takes, in seconds.
    #[serde(default)]
    pub(crate) turn: u64,
    /// For idle containers: the number of the first one, and of the first one that is not started
    /// any more.
    #[serde(default)]
    pub(crate) numbers: (usize, usize),
    /// For pods: the cgroup that theirs are made in.
    #[serde(default)]
    pub(crate) cgroup: String,
    /// For pods: whose network they have.
    #[serde(default)]
    pub(crate) network: Network,
    /// For idle containers: in pods, or alone.
    #[serde(default)]
    pub(crate) form: Form,
}

/// One runtime, and what it runs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subject {
    /// Its name in the samples.
    pub(crate) name: String,
    /// The shim's executable.
    #[serde(default)]
    pub(crate) shim: PathBuf,
    /// The container that all others are copies of: made, and never started.
    #[serde(default)]
    pub(crate) template: String,
    /// CRI's handler.
    #[serde(default)]
    pub(crate) handler: String,
    /// The image of a pod's container.
    #[serde(default)]
    pub(crate) image: String,
    /// The words that a pod's container is started with.
    #[serde(default)]
    pub(crate) words: Vec<String>,
    /// A command line; [`ID`] stands for an id that no other container has.
    #[serde(default)]
    pub(crate) command: Vec<String>,
}

/// Stands in a command line for the container's id.
pub(crate) const ID: &str = "@ID@";

/// Whose network a pod has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Network {
    /// The machine's.
    #[default]
    Node,
    /// Its own, set up by a network plugin.
    Pod,
}

/// How idle containers are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    /// As tasks of containerd.
    #[default]
    Task,
    /// Each in a pod of its own.
    Pod,
}

/// By subject, then by what was timed: the values, in the order of the rounds.
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
    /// Whose turn it is.
    pub(crate) subject: &'a Subject,
    /// The number of its round, those that do not count included.
    pub(crate) round: usize,
    /// Whether it counts.
    pub(crate) counts: bool,
}

impl Turn<'_> {
    /// An id for its container.
    pub(crate) fn id(&self) -> String {
        format!("{}-{}", self.subject.name, self.round)
    }
}

impl Plan {
    /// All turns in their order: each round begins with another subject.
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
    fn subjects_take_turns_and_another_one_begins_each_round() {
        let plan = plan();
        let order: Vec<String> = plan.turns().iter().map(Turn::id).collect();
        assert_eq!(order, ["a-0", "b-0", "b-1", "a-1", "a-2", "b-2"]);
    }

    #[test]
    fn rounds_of_the_warm_up_do_not_count() {
        let plan = plan();
        let counted: Vec<bool> = plan.turns().iter().map(|turn| turn.counts).collect();
        assert_eq!(counted, [false, false, true, true, true, true]);
    }

    #[test]
    fn samples_are_written_by_subject_and_by_what_was_timed() {
        let mut samples = Samples::default();
        samples.time("runc", "create", Duration::from_micros(1500));
        samples.add("runc", "create", 2.0);
        assert_eq!(
            serde_json::to_string(&samples).unwrap(),
            r#"{"runc":{"create":[1.5,2.0]}}"#
        );
    }
}
