//! Options of a runtime, and the creator of its pods' sandboxes.

use installer_protocol::settings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::WasmRuntimeSpec;

/// Options of the runtime. A change is rolled out like a new version; running pods keep the former
/// options.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OptionsSpec {
    /// Containers that share a node host, the process that serves them: all of the node, those of
    /// a namespace, or those of a pod. If a host dies, all its containers die. Each host costs
    /// memory.
    #[serde(default)]
    pub grouping: Grouping,
    /// Lowest severity that hosts log. A running host keeps its level.
    #[serde(default)]
    pub log_level: LogLevel,
    /// Maximum number of containers that one host serves at a time; a pod counts as one more than
    /// its containers. Further containers are refused, and Kubernetes retries them. If left out,
    /// there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_containers: Option<u32>,
}

/// Containers that share a node host.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grouping {
    /// All of the node: uses the least memory.
    #[default]
    Node,
    /// Those of one namespace.
    Namespace,
    /// Those of one pod.
    Pod,
}

/// Lowest severity that hosts log.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLevel {
    /// Failures.
    Error,
    /// Conditions that need attention soon.
    Warn,
    /// Starts, exits and other events of containers and of the host.
    #[default]
    Info,
    /// Each request.
    Debug,
    /// Each step.
    Trace,
}

/// Creator of pod sandboxes.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sandboxer {
    /// containerd, with a container for each sandbox; works with every containerd.
    #[default]
    PodSandbox,
    /// The runtime, through containerd's Sandbox API. Needs containerd 2.4 or later; nodes with an
    /// older one are refused.
    Shim,
}

impl WasmRuntimeSpec {
    /// Returns the settings of the handler, as an installer's request holds them.
    pub fn settings(&self) -> settings::Settings {
        let OptionsSpec {
            grouping,
            log_level,
            max_containers,
        } = self.runtime;
        settings::Settings {
            grouping: grouping.into(),
            log_level: log_level.into(),
            max_containers,
            sandboxer: self.containerd.sandboxer.into(),
        }
    }
}

impl From<Grouping> for settings::Grouping {
    fn from(grouping: Grouping) -> Self {
        match grouping {
            Grouping::Node => Self::Node,
            Grouping::Namespace => Self::Namespace,
            Grouping::Pod => Self::Pod,
        }
    }
}

impl From<LogLevel> for settings::LogLevel {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::Error,
            LogLevel::Warn => Self::Warn,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
            LogLevel::Trace => Self::Trace,
        }
    }
}

impl From<Sandboxer> for settings::Sandboxer {
    fn from(sandboxer: Sandboxer) -> Self {
        match sandboxer {
            Sandboxer::PodSandbox => Self::PodSandbox,
            Sandboxer::Shim => Self::Shim,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_hold_every_option_of_the_spec() {
        let spec = |spec| {
            serde_json::from_value::<WasmRuntimeSpec>(spec)
                .unwrap()
                .settings()
        };
        assert!(spec(json!({})).is_default());
        assert!(
            spec(json!({"runtime": {"grouping": "Node", "logLevel": "Info"},
            "containerd": {"sandboxer": "PodSandbox"}}))
            .is_default()
        );
        let all = spec(json!({
            "runtime": {"grouping": "Namespace", "logLevel": "Warn", "maxContainers": 250},
            "containerd": {"sandboxer": "Shim"},
        }));
        let expected = settings::Settings {
            grouping: settings::Grouping::Namespace,
            log_level: settings::LogLevel::Warn,
            max_containers: Some(250),
            sandboxer: settings::Sandboxer::Shim,
        };
        assert_eq!(all, expected);
    }
}
