//! The runtime options of a handler: its `options` table in containerd's configuration, as
//! containerd passes it to `start` and to Create ([`Given`]), or the file beside the launcher
//! ([`OptionsFile`]).

use runtime_options::{CgroupDriver, OPTIONS, OptionValue, RuntimeOptions};
use toml::{Table, Value as Toml};

use crate::wire::{self, Malformed, Value};

mod file;
mod given;

pub use file::{OPTIONS_FILE, OptionsFile};
pub use given::Given;

/// An error of runtime options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A key that [`OPTIONS`] does not have.
    #[error("unknown runtime option {key:?}: known are {}", known_keys())]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// A value that is not possible for the key.
    #[error("runtime option {key} = {value} is not possible: it is {values}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// The possible values.
        values: &'static str,
    },
    /// The table is not valid TOML.
    #[error("the runtime options are not valid TOML: {reason}")]
    NoToml {
        /// The position and the cause.
        reason: String,
    },
    /// The message with the options is malformed.
    #[error("the runtime options cannot be read")]
    Malformed(#[from] Malformed),
    /// The file that the handler names instead of a table cannot be read.
    #[error("the runtime options are in the file {path}, which cannot be read: {reason}")]
    File {
        /// The file's path.
        path: String,
        /// The system's error.
        reason: String,
    },
    /// An error in the options of the file beside the launcher, or of its copy.
    #[error("runtime options in {path}: {error}")]
    InFile {
        /// The file's path.
        path: String,
        /// The error.
        error: Box<OptionsError>,
    },
    /// A file that another user could have written.
    #[error(
        "the options file {path} {problem}: it has to be a regular file of root's that only root \
         can write, of at most 64 KiB"
    )]
    UnsafeFile {
        /// The file's path.
        path: String,
        /// The problem, as a predicate of the file.
        problem: &'static str,
    },
    /// The launcher could not copy the file to the bundle.
    #[error("write the runtime options into the container's bundle: {path}: {reason}")]
    HandOver {
        /// The path of the copy.
        path: String,
        /// The system's error.
        reason: String,
    },
    /// Options are in two places.
    #[error(
        "the handler has runtime options in the file {path} and in its options table in \
         containerd's configuration: remove one of both, and \
         restart containerd if it was the table"
    )]
    TwoSources {
        /// The file's path.
        path: String,
    },
    /// Options of another runtime.
    #[error("the runtime options are of type {type_url:?}: known are {GENERIC} and {RUNC}")]
    UnknownType {
        /// The type in the request.
        type_url: String,
    },
}

/// The type of an options table of a runtime that containerd does not know.
const GENERIC: &str = "runtimeoptions.v1.Options";
/// The type for a handler without a table.
const RUNC: &str = "containerd.runc.v1.Options";

/// Returns the name of a type. Go's registry omits the prefix; protobuf's own libraries write a
/// host name there.
fn message_name(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or_default()
}

fn known_keys() -> String {
    OPTIONS
        .iter()
        .map(|row| row.key)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Returns whether [`Given::decode`] supports the type.
pub fn has_type(type_url: &str) -> bool {
    matches!(message_name(type_url), GENERIC | RUNC)
}

/// Parses an options table.
///
/// # Errors
/// If it is not valid TOML, or has an unknown key or a value that is not possible.
pub fn from_toml(text: &str) -> Result<RuntimeOptions, OptionsError> {
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| OptionsError::NoToml {
            reason: error.message().to_owned(),
        })?;
    let mut options = RuntimeOptions::default();
    for (key, value) in &table {
        let row = OPTIONS
            .iter()
            .find(|row| row.key == key)
            .ok_or_else(|| OptionsError::UnknownKey { key: key.clone() })?;
        option_value(value)
            .and_then(|value| options.set(row.key, value))
            .ok_or_else(|| OptionsError::BadValue {
                key: row.key,
                value: value.to_string(),
                values: row.values,
            })?;
    }
    Ok(options)
}

fn option_value(value: &Toml) -> Option<OptionValue<'_>> {
    match value {
        Toml::Boolean(flag) => Some(OptionValue::Flag(*flag)),
        Toml::String(word) => Some(word.as_str().into()),
        Toml::Array(words) => {
            let words = words.iter().map(Toml::as_str);
            words.collect::<Option<_>>().map(OptionValue::Words)
        }
        Toml::Integer(number) => Some(OptionValue::Number(*number)),
        _ => None,
    }
}

/// Decodes `runtimeoptions.v1.Options { type_url = 1, config_path = 2, config_body = 3 }`. The
/// path is for containerd 1.6, which does not pass the table itself, and for `ctr run
/// --runtime-config-path`. `None` for an empty table.
fn decode_generic(message: &[u8]) -> Result<Option<RuntimeOptions>, OptionsError> {
    let (mut path, mut body) = ("", "");
    for field in wire::fields(message)? {
        match (field.number, field.value.text()) {
            (2, Some(text)) => path = text,
            (3, Some(text)) => body = text,
            (3, None) => {
                return Err(OptionsError::NoToml {
                    reason: "it is not valid UTF-8".to_owned(),
                });
            }
            _ => {}
        }
    }
    if path.is_empty() {
        return if body.trim().is_empty() {
            Ok(None)
        } else {
            from_toml(body).map(Some)
        };
    }
    let text = std::fs::read_to_string(path);
    from_toml(&text.map_err(|error| OptionsError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    })?)
    .map(Some)
}

/// Decodes `containerd.runc.v1.Options { …, systemd_cgroup = 9, … }`.
fn decode_runc(message: &[u8]) -> Result<RuntimeOptions, OptionsError> {
    let systemd = wire::fields(message)?
        .iter()
        .any(|field| field.number == 9 && field.value == Value::Varint(1));
    Ok(RuntimeOptions {
        cgroup_driver: if systemd {
            CgroupDriver::Systemd
        } else {
            CgroupDriver::Cgroupfs
        },
        ..RuntimeOptions::default()
    })
}

#[cfg(test)]
mod tests;
