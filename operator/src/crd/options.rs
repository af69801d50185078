//! What is chosen of a runtime: its own options, and who makes the sandboxes of its pods.

use installer_protocol::settings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::WasmRuntimeSpec;

/// Options of the runtime. A change of them comes to nodes like a new version: pods that run keep
/// the former ones.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OptionsSpec {
    /// Which containers share a host, the process that serves them: all of the node, those of a
    /// namespace, or those of a pod. What ends a host ends all containers that share it; each host
    /// costs memory.
    #[serde(default)]
    pub grouping: Grouping,
    /// What hosts log: this, and what is graver. A host that runs already keeps its level.
    #[serde(default)]
    pub log_level: LogLevel,
    /// The most containers that one host serves at once; a pod counts as one more than it has
    /// containers. Beyond it none is made, and Kubernetes tries again later. None means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_containers: Option<u32>,
}

/// Which containers share a host.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grouping {
    /// All of the node: least memory.
    #[default]
    Node,
    /// Those of one namespace.
    Namespace,
    /// Those of one pod.
    Pod,
}

/// What hosts log.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sandboxer {
    /// containerd, with the runtime's help: on every containerd.
    #[default]
    PodSandbox,
    /// The runtime, through containerd's Sandbox API: on containerd 2.4 and later only. A node with
    /// an older one is refused.
    Shim,
}

impl WasmRuntimeSpec {
    /// What is chosen of the handler, as installers are told.
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
    fn installers_are_told_what_the_spec_says() {
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
