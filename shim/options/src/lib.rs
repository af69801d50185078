//! The runtime options of a handler, and the settings of its guests ([`guest`]). A new option is
//! one field of [`HandlerOptions`] and one row of [`OPTIONS`]; what follows from those needs no
//! edit:
//!
//! | reader | uses |
//! |---|---|
//! | CRD and chart | [`HandlerOptions`]: its schema (feature `schema`) and field descriptions |
//! | operator → installer | [`HandlerOptions`]: JSON within a request, without defaults |
//! | installer → node | [`HandlerOptions::table`]: keys of the options table that are not at their default |
//! | launcher and host | [`RuntimeOptions::set`]: a key and its value, from TOML |
//! | host, for each guest | [`GuestSettings::resolve`]: the options, with the pod's annotations |
//! | reference pages | [`OPTIONS`], [`SETTINGS`] |
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod folder;
mod wait;
pub mod guest;
mod named;
mod rows;

pub use folder::{BadFolder, NodeFolder};
pub use guest::{
    ANNOTATION_PREFIX, CompilePolicy, EngineChoice, GuestSettings, Mode, SETTINGS, SettingError,
    SettingKey, SettingRow,
};
pub use rows::{OPTIONS, OptionRow, OptionValue};

/// Every runtime option of a handler, with its value or its default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// The cgroup driver; must be the kubelet's `cgroupDriver`.
    pub cgroup_driver: CgroupDriver,
    /// The options that an administrator chooses.
    pub handler: HandlerOptions,
}

/// Options of the runtime. A change is rolled out like a new version; running pods keep the former
/// options.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(default, rename_all = "camelCase")]
pub struct HandlerOptions {
    /// Containers that share a node host, the process that serves them: all of the node, those of
    /// a namespace, or those of a pod. If a host dies, all its containers die. Each host costs
    /// memory.
    pub grouping: Grouping,
    /// Lowest severity that hosts log. A running host keeps its level.
    pub log_level: LogLevel,
    /// Maximum number of containers that one host serves at a time; a pod counts as one more than
    /// its containers. Further containers are refused, and Kubernetes retries them. If left out,
    /// there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000_000)))]
    pub max_containers: Option<NonZeroU32>,
    /// Engine that runs guests. Auto means WasmEdge for core modules.
    pub engine: EngineChoice,
    /// Aot: guests run as machine code that the node compiled from their modules; WasmEdge
    /// interprets them until there is some. Interpreter: they are always interpreted, which
    /// Wasmtime cannot do.
    pub mode: Mode,
    /// Tiered: a start uses the best code that the node has, and better code is compiled in the
    /// background for later starts. Wait: a start waits until the code with all optimizations is
    /// compiled. Never: starts compile nothing, and use code that the node has already.
    pub compile: CompilePolicy,
    /// Longest time that a start waits for the first compiled code if `compile` is Tiered: 0, or a
    /// number with the unit ms, s or m, of at most 10 minutes. After it, WasmEdge interprets the
    /// guest of this start.
    #[serde(with = "wait")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "String", length(max = 8), regex(pattern = wait::PATTERN))
    )]
    pub compile_wait: Duration,
    /// Settings of guests that annotations of pods cannot change: a pod with an annotation for one
    /// of them fails, with a message that names the lock.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(
            with = "Vec<SettingKey>",
            length(max = 16),
            extend("x-kubernetes-list-type" = "set")
        )
    )]
    pub locked: BTreeSet<SettingKey>,
    /// Folder on the node for compiled code. It must be on a file system from which programs can
    /// be executed.
    pub artifact_store: NodeFolder,
    /// Maximum size of that folder in MiB. What was not used for the longest time is removed
    /// first, and never what a guest runs.
    #[serde(rename = "artifactStoreMaxMiB")]
    #[cfg_attr(feature = "schema", schemars(range(min = 64, max = 104_857_600)))]
    pub artifact_store_max_mib: u32,
    /// Maximum share of that folder in the size of its file system, in percent. The smaller one of
    /// both bounds applies.
    #[cfg_attr(feature = "schema", schemars(with = "u32", range(min = 1, max = 90)))]
    pub artifact_store_max_disk_percent: u8,
    /// Number of modules that a host compiles at a time.
    #[cfg_attr(feature = "schema", schemars(with = "u32", range(min = 1, max = 16)))]
    pub compile_jobs: u8,
    /// Memory of one compilation in MiB. One that needs more fails, and its guest is interpreted,
    /// or refused if its engine has no interpreter.
    #[serde(rename = "compileMemoryMiB")]
    #[cfg_attr(feature = "schema", schemars(range(min = 256, max = 1_048_576)))]
    pub compile_memory_mib: u32,
    /// CPU time of one compilation in seconds. One that needs more fails in the same way.
    #[cfg_attr(feature = "schema", schemars(range(min = 10, max = 86_400)))]
    pub compile_cpu_seconds: u32,
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

impl Default for HandlerOptions {
    fn default() -> Self {
        let GuestSettings {
            engine,
            mode,
            compile,
            compile_wait,
        } = GuestSettings::default();
        Self {
            grouping: Grouping::default(),
            log_level: LogLevel::default(),
            max_containers: None,
            engine,
            mode,
            compile,
            compile_wait,
            locked: BTreeSet::new(),
            artifact_store: NodeFolder::new("/var/lib/wasmedge-runtime/artifacts")
                .expect("the path is absolute and without special parts"),
            artifact_store_max_mib: 10_240,
            artifact_store_max_disk_percent: 10,
            compile_jobs: 1,
            compile_memory_mib: 3072,
            compile_cpu_seconds: 3600,
        }
    }
}

impl HandlerOptions {
    /// Whether every option is at its default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the keys of the options table that are not at their default, with their values as
    /// TOML.
    pub fn table(&self) -> Vec<(&'static str, String)> {
        let (options, defaults) = (self.with_default_driver(), RuntimeOptions::default());
        let chosen = |row: &OptionRow| {
            let value = (row.get)(&options)?;
            let is_chosen = (row.get)(&defaults).as_ref() != Some(&value);
            is_chosen.then(|| (row.key, value.to_string()))
        };
        OPTIONS.iter().filter_map(chosen).collect()
    }

    /// Returns the first option with a value that it cannot have. The schema of the CRD refuses
    /// such values; options from elsewhere need this check.
    pub fn out_of_bounds(&self) -> Option<&'static OptionRow> {
        let (options, mut again) = (self.with_default_driver(), RuntimeOptions::default());
        OPTIONS.iter().find(|row| {
            let value = (row.get)(&options);
            value.is_some_and(|value| (row.set)(&mut again, value).is_none())
        })
    }

    /// Returns the settings of a guest without annotations.
    pub fn guest_settings(&self) -> GuestSettings {
        GuestSettings {
            engine: self.engine,
            mode: self.mode,
            compile: self.compile,
            compile_wait: self.compile_wait,
        }
    }

    fn with_default_driver(&self) -> RuntimeOptions {
        RuntimeOptions {
            handler: self.clone(),
            ..RuntimeOptions::default()
        }
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
