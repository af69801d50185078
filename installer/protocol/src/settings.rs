//! What an admin chooses of a handler: which containers share a host, what hosts log, how many
//! containers one serves, and who makes the sandboxes of pods.
//!
//! The keys and values of the runtime's options table are named here once more than by the runtime
//! itself, which operator and installer do not depend on; a test of the package that generates the
//! reference reads them with the runtime's own reader.

use serde::{Deserialize, Serialize};

/// What an admin chooses of a handler. What is at its default is nowhere written down: neither in a
/// request nor on a node, so that an older installer or runtime, which does not know it, has
/// nothing to refuse.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Which containers share a host.
    #[serde(default, skip_serializing_if = "is_default")]
    pub grouping: Grouping,
    /// What a host logs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub log_level: LogLevel,
    /// The most containers that one host serves at once, at least 1; none for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_containers: Option<u32>,
    /// Who makes the sandboxes of pods.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sandboxer: Sandboxer,
}

/// Which containers share a host, and with it the fate of that process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Grouping {
    /// All of the node.
    #[default]
    Node,
    /// Those of one Kubernetes namespace.
    Namespace,
    /// Those of one pod.
    Pod,
}

/// What a host logs: this, and what is graver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What will need attention.
    Warn,
    /// What happened to containers and to the host.
    #[default]
    Info,
    /// Each request.
    Debug,
    /// Each step.
    Trace,
}

/// Who makes the sandboxes of pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Sandboxer {
    /// containerd, with a container for each sandbox, which the runtime serves without a process.
    #[default]
    PodSandbox,
    /// The runtime, through containerd's Sandbox API.
    Shim,
}

/// The value of a runtime option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionValue {
    /// One of a few words.
    Word(&'static str),
    /// A number.
    Number(u32),
}

impl std::fmt::Display for OptionValue {
    /// As TOML.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(word) => write!(f, "\"{word}\""),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl Grouping {
    /// Every one, the default first.
    pub const ALL: &'static [Self] = &[Self::Node, Self::Namespace, Self::Pod];

    /// As the runtime's option has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Namespace => "namespace",
            Self::Pod => "pod",
        }
    }
}

impl LogLevel {
    /// Every one, the gravest first.
    pub const ALL: &'static [Self] = &[
        Self::Error,
        Self::Warn,
        Self::Info,
        Self::Debug,
        Self::Trace,
    ];

    /// As the runtime's option has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Settings {
    /// Whether nothing was chosen.
    pub fn is_default(&self) -> bool {
        is_default(self)
    }

    /// What the runtime's options table has to say beside who sets up cgroups: each key that is not
    /// at its default.
    pub fn options(&self) -> Vec<(&'static str, OptionValue)> {
        let Self {
            grouping,
            log_level,
            max_containers,
            sandboxer: _,
        } = *self;
        let grouping = (grouping != Grouping::default())
            .then(|| ("grouping", OptionValue::Word(grouping.word())));
        let log_level = (log_level != LogLevel::default())
            .then(|| ("log_level", OptionValue::Word(log_level.word())));
        let max_containers =
            max_containers.map(|number| ("max_containers", OptionValue::Number(number)));
        [grouping, log_level, max_containers]
            .into_iter()
            .flatten()
            .collect()
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_at_its_default_is_not_written_down() {
        assert_eq!(serde_json::to_string(&Settings::default()).unwrap(), "{}");
        assert_eq!(Settings::default().options(), []);
        assert_eq!(
            Settings {
                sandboxer: Sandboxer::Shim,
                ..Settings::default()
            }
            .options(),
            []
        );
    }

    #[test]
    fn what_is_chosen_is_a_key_of_the_options_table() {
        let settings = Settings {
            grouping: Grouping::Pod,
            log_level: LogLevel::Debug,
            max_containers: Some(7),
            sandboxer: Sandboxer::PodSandbox,
        };
        let lines: Vec<String> = settings
            .options()
            .iter()
            .map(|(key, value)| format!("{key} = {value}"))
            .collect();
        assert_eq!(
            lines,
            [
                "grouping = \"pod\"",
                "log_level = \"debug\"",
                "max_containers = 7"
            ]
        );
        assert_eq!(
            serde_json::from_str::<Settings>(&serde_json::to_string(&settings).unwrap()).unwrap(),
            settings
        );
    }
}
