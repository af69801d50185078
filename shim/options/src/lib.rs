//! The runtime options of a handler. A new option is one field of [`HandlerOptions`] and one row of
//! [`OPTIONS`]; what follows from those needs no edit:
//!
//! | reader | uses |
//! |---|---|
//! | CRD and chart | [`HandlerOptions`]: its schema (feature `schema`) and field descriptions |
//! | operator → installer | [`HandlerOptions`]: JSON within a request, without defaults |
//! | installer → node | [`HandlerOptions::table`]: keys of the options table that are not at their default |
//! | launcher and host | [`RuntimeOptions::set`]: a key and its value, from TOML |
//! | reference page | [`OPTIONS`] |
#![forbid(unsafe_code)]

use std::num::NonZeroU32;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod named;
mod rows;

pub use rows::{OPTIONS, OptionRow, OptionValue};

/// Every runtime option of a handler, with its value or its default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// The cgroup driver; must be the kubelet's `cgroupDriver`.
    pub cgroup_driver: CgroupDriver,
    /// The options that an administrator chooses.
    pub handler: HandlerOptions,
}

/// Options of the runtime. A change is rolled out like a new version; running pods keep the former
/// options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HandlerOptions {
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
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000_000)))]
    pub max_containers: Option<NonZeroU32>,
}

/// The cgroup driver of containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum CgroupDriver {
    /// The runtime itself, as folders of the cgroup file systems.
    #[default]
    Cgroupfs,
    /// systemd, as scopes, requested over its private socket.
    Systemd,
}

/// Containers that share a node host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
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
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub enum Sandboxer {
    /// containerd, with a container for each sandbox; works with every containerd.
    #[default]
    PodSandbox,
    /// The runtime, through containerd's Sandbox API. Needs containerd 2.4 or later; nodes with an
    /// older one are refused.
    Shim,
}

impl HandlerOptions {
    /// Whether every option is at its default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the keys of the options table that are not at their default, with their values.
    pub fn table(&self) -> Vec<(&'static str, OptionValue<'static>)> {
        let options = RuntimeOptions {
            handler: *self,
            ..RuntimeOptions::default()
        };
        let chosen = |row: &OptionRow| Some((row.key, (row.get)(&options)?));
        OPTIONS.iter().filter_map(chosen).collect()
    }
}

impl RuntimeOptions {
    /// Sets the option with this key. None if the key is unknown or cannot have this value.
    pub fn set(&mut self, key: &str, value: OptionValue<'_>) -> Option<()> {
        let row = OPTIONS.iter().find(|row| row.key == key)?;
        (row.set)(self, value)
    }
}

#[cfg(test)]
mod tests;
