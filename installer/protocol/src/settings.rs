//! The settings of a handler that an admin chooses: grouping, log level and container limit of the
//! node host, and the component that makes pod sandboxes.
//!
//! The runtime's options table has the same keys and values. Operator and installer do not depend
//! on the runtime, so they are defined here once more; a test of the package that generates the
//! reference parses them with the runtime's own code.

use serde::{Deserialize, Serialize};

/// The settings of a handler. Defaults are neither written into a request nor on a node, so that an
/// older installer or runtime, which does not know a setting, accepts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// The containers that share a node host.
    #[serde(default, skip_serializing_if = "is_default")]
    pub grouping: Grouping,
    /// The log level of a node host.
    #[serde(default, skip_serializing_if = "is_default")]
    pub log_level: LogLevel,
    /// Maximum number of containers of one node host, at least 1; none for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_containers: Option<u32>,
    /// The component that makes pod sandboxes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sandboxer: Sandboxer,
}

/// The containers that share a node host, and are lost with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Grouping {
    /// All containers of the node.
    #[default]
    Node,
    /// The containers of one Kubernetes namespace.
    Namespace,
    /// The containers of one pod.
    Pod,
}

/// The least severe messages that a node host logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LogLevel {
    /// Failures.
    Error,
    /// Problems that need attention.
    Warn,
    /// Events of containers and of the node host.
    #[default]
    Info,
    /// Each request.
    Debug,
    /// Each step of a request.
    Trace,
}

/// The component that makes pod sandboxes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Sandboxer {
    /// containerd, with a container for each sandbox; the runtime serves it without a process.
    #[default]
    PodSandbox,
    /// The runtime, through containerd's Sandbox API.
    Shim,
}

/// The value of a runtime option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionValue {
    /// A name.
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
    /// All values, the default first.
    pub const ALL: &'static [Self] = &[Self::Node, Self::Namespace, Self::Pod];

    /// Returns the option's value.
    pub fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Namespace => "namespace",
            Self::Pod => "pod",
        }
    }
}

impl LogLevel {
    /// All values, the most severe first.
    pub const ALL: &'static [Self] = &[
        Self::Error,
        Self::Warn,
        Self::Info,
        Self::Debug,
        Self::Trace,
    ];

    /// Returns the option's value.
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
    /// Returns whether all settings are defaults.
    pub fn is_default(&self) -> bool {
        is_default(self)
    }

    /// Returns the keys of the runtime's options table, except `SystemdCgroup`, that are not at
    /// their default.
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
    fn default_settings_are_not_serialized() {
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
    fn chosen_setting_is_a_key_of_the_options_table() {
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
