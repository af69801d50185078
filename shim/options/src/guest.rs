//! The settings of guests. A new setting is one field of [`GuestSettings`], one [`SettingKey`], one
//! row of [`SETTINGS`], and one option of the handler for its default on a node.
//!
//! Three layers decide them, each over the one before it: the defaults, the handler's options, and
//! the annotations of the pod. The options can lock settings against annotations.

use std::time::Duration;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{HandlerOptions, wait};

/// What the names of annotations with settings begin with.
pub const ANNOTATION_PREFIX: &str = "runtime.wasmedge.dev/";

/// The settings of one guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestSettings {
    /// The engine.
    pub engine: EngineChoice,
    /// Whether the guest runs as compiled code.
    pub mode: Mode,
    /// When its code is compiled.
    pub compile: CompilePolicy,
    /// The longest time that a start waits for the first compiled code; at most ten minutes.
    pub compile_wait: Duration,
}

/// The engine that runs a guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub enum EngineChoice {
    /// The runtime chooses: `WasmEdge` for core modules.
    #[default]
    Auto,
    /// `WasmEdge`.
    WasmEdge,
    /// Wasmtime. It has no interpreter.
    Wasmtime,
}

/// How a guest's code is executed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub enum Mode {
    /// As machine code that the node has compiled. The interpreter is used until there is some.
    #[default]
    Aot,
    /// Always by the engine's interpreter.
    Interpreter,
}

/// When a guest's code is compiled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub enum CompilePolicy {
    /// First fast, then well: a start uses the best code that there is, and better code is compiled
    /// in the background for later starts.
    #[default]
    Tiered,
    /// Before the start, with all optimizations.
    Wait,
    /// Not by this guest's start; code that there is already is used.
    Never,
}

/// The key of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SettingKey {
    /// [`GuestSettings::engine`].
    Engine,
    /// [`GuestSettings::mode`].
    Mode,
    /// [`GuestSettings::compile`].
    Compile,
    /// [`GuestSettings::compile_wait`].
    CompileWait,
}

/// The documentation of a setting, and how it is read and written.
#[derive(Debug, Clone, Copy)]
pub struct SettingRow {
    /// Its key.
    pub key: SettingKey,
    /// The key of the handler's option that sets it for a node, in the JSON of [`HandlerOptions`].
    pub field: &'static str,
    /// Its possible values, as error messages name them.
    pub values: &'static str,
    /// Its effect.
    pub meaning: &'static str,
    /// Returns its value as text.
    pub get: fn(&GuestSettings) -> String,
    /// Sets it from text; none if it cannot have this value.
    pub set: fn(&mut GuestSettings, &str) -> Option<()>,
}

/// An error of a pod's settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// A key that [`SETTINGS`] does not have.
    #[error(
        "annotation {annotation}: unknown setting {key:?}: known are {}",
        known_keys()
    )]
    UnknownKey {
        /// The name of the annotation.
        annotation: String,
        /// The key.
        key: String,
    },
    /// A key with a dot, and no container's name after it.
    #[error(
        "annotation {annotation}: no container is named after the dot: write {prefix}{key} for \
         all guests of the pod, or {prefix}{key}.CONTAINER for one",
        prefix = ANNOTATION_PREFIX, key = key.as_str()
    )]
    NoContainer {
        /// The name of the annotation.
        annotation: String,
        /// The key.
        key: SettingKey,
    },
    /// A value that is not possible for the key.
    #[error("annotation {annotation} = {value:?} is not possible: it is {values}")]
    BadValue {
        /// The name of the annotation.
        annotation: String,
        /// The value.
        value: String,
        /// The possible values.
        values: &'static str,
    },
    /// A setting that the handler's options lock.
    #[error(
        "annotation {annotation}: the setting is locked on this node: the runtime options of the \
         handler have {} in `locked`, and set it to {value:?}: remove the annotation, or ask the \
         cluster's administrator to unlock it in the WasmRuntime",
        key.as_str()
    )]
    Locked {
        /// The name of the annotation.
        annotation: String,
        /// The key.
        key: SettingKey,
        /// The value that applies on this node.
        value: String,
    },
    /// Wasmtime is to interpret a guest.
    #[error(
        "the guest's settings are engine = \"wasmtime\" and mode = \"interpreter\", from its \
         annotations {ANNOTATION_PREFIX}… or the handler's options: Wasmtime has no interpreter: \
         choose the engine \"wasmedge\", or the mode \"aot\""
    )]
    NoInterpreter,
}

/// Every setting, in the order of the reference page.
pub const SETTINGS: &[SettingRow] = &[
    SettingRow {
        key: SettingKey::Engine,
        field: "engine",
        values: "\"auto\", \"wasmedge\" or \"wasmtime\"",
        meaning: "engine that runs the guest. `auto` means WasmEdge for core modules",
        get: |settings| settings.engine.as_str().to_owned(),
        set: |settings, value| {
            settings.engine = EngineChoice::from_name(value)?;
            Some(())
        },
    },
    SettingRow {
        key: SettingKey::Mode,
        field: "mode",
        values: "\"aot\" or \"interpreter\"",
        meaning: "`aot`: the guest runs as machine code that the node compiled from its module; \
                  WasmEdge interprets it until there is some. `interpreter`: it is always \
                  interpreted, which Wasmtime cannot do",
        get: |settings| settings.mode.as_str().to_owned(),
        set: |settings, value| {
            settings.mode = Mode::from_name(value)?;
            Some(())
        },
    },
    SettingRow {
        key: SettingKey::Compile,
        field: "compile",
        values: "\"tiered\", \"wait\" or \"never\"",
        meaning: "`tiered`: a start uses the best code that the node has, and better code is \
                  compiled in the background for later starts. `wait`: the start waits until the \
                  code with all optimizations is compiled. `never`: this start compiles nothing, \
                  and uses code that the node has already",
        get: |settings| settings.compile.as_str().to_owned(),
        set: |settings, value| {
            settings.compile = CompilePolicy::from_name(value)?;
            Some(())
        },
    },
    SettingRow {
        key: SettingKey::CompileWait,
        field: "compileWait",
        values: wait::VALUES,
        meaning: "longest time that a start waits for the first compiled code with `compile` \
                  `tiered`. After it, WasmEdge interprets the guest of this start",
        get: |settings| wait::text(settings.compile_wait),
        set: |settings, value| {
            settings.compile_wait = wait::parse(value)?;
            Some(())
        },
    },
];

impl Default for GuestSettings {
    fn default() -> Self {
        Self {
            engine: EngineChoice::default(),
            mode: Mode::default(),
            compile: CompilePolicy::default(),
            compile_wait: Duration::from_secs(10),
        }
    }
}

impl SettingKey {
    /// Returns the row of the setting.
    fn row(self) -> &'static SettingRow {
        let row = SETTINGS.iter().find(|row| row.key == self);
        row.expect("a test finds a row for each key")
    }
}

impl GuestSettings {
    /// Returns the settings of the guest in the container `container`, as its pod names it; none
    /// for a container without a pod. `annotations` are all annotations of the container: those
    /// that do not begin with [`ANNOTATION_PREFIX`] are not settings. `KEY` applies to all guests
    /// of the pod, and `KEY.CONTAINER`, which takes precedence, to one.
    ///
    /// # Errors
    /// If an annotation has an unknown key, a value that is not possible, or a locked key, or if
    /// the settings exclude each other. Value and lock of a setting for another container are left
    /// to that container.
    pub fn resolve<'a>(
        options: &HandlerOptions,
        annotations: impl IntoIterator<Item = (&'a str, &'a str)>,
        container: Option<&str>,
    ) -> Result<Self, SettingError> {
        let of_prefix = |(name, value): (&'a str, &'a str)| {
            Some((name.strip_prefix(ANNOTATION_PREFIX)?, name, value))
        };
        let mut given: Vec<_> = annotations.into_iter().filter_map(of_prefix).collect();
        // One order for all errors; and a key without a container comes before one with.
        given.sort_unstable();

        let mut settings = options.guest_settings();
        for (setting, annotation, value) in given {
            let (key, only_for) = match setting.split_once('.') {
                Some((key, only_for)) => (key, Some(only_for)),
                None => (setting, None),
            };
            let key = SettingKey::from_name(key).ok_or_else(|| SettingError::UnknownKey {
                annotation: annotation.to_owned(),
                key: key.to_owned(),
            })?;
            if only_for == Some("") {
                let annotation = annotation.to_owned();
                return Err(SettingError::NoContainer { annotation, key });
            }
            if only_for.is_some() && only_for != container {
                continue;
            }
            let row = key.row();
            if options.locked.contains(&key) {
                return Err(SettingError::Locked {
                    annotation: annotation.to_owned(),
                    key,
                    value: (row.get)(&options.guest_settings()),
                });
            }
            (row.set)(&mut settings, value).ok_or_else(|| SettingError::BadValue {
                annotation: annotation.to_owned(),
                value: value.to_owned(),
                values: row.values,
            })?;
        }
        match (settings.engine, settings.mode) {
            (EngineChoice::Wasmtime, Mode::Interpreter) => Err(SettingError::NoInterpreter),
            _ => Ok(settings),
        }
    }
}

fn known_keys() -> String {
    let keys: Vec<_> = SettingKey::ALL.iter().map(|key| key.as_str()).collect();
    keys.join(", ")
}

#[cfg(test)]
mod tests;
