//! The runtime options of a handler: its `options` table in containerd's configuration, as
//! containerd passes it to `start` and to Create ([`Given`]), or the file beside the launcher
//! ([`OptionsFile`]). [`OPTIONS`] is `docs/reference/runtime-options.md`.

use std::num::NonZeroU32;

use toml::{Table, Value as Toml};

use crate::wire::{self, Malformed, Value};

mod file;
mod given;

pub use file::{OPTIONS_FILE, OptionsFile};
pub use given::Given;

/// Every option, with its value or its default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// The cgroup driver; must match kubelet's `cgroupDriver`.
    pub cgroups: CgroupDriver,
    /// The containers that share a host.
    pub grouping: Grouping,
    /// The host's log level.
    pub log_level: LogLevel,
    /// The maximum number of containers of one host. Create beyond it is refused.
    pub max_containers: Option<NonZeroU32>,
}

/// The creator of cgroups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupDriver {
    /// The runtime itself, in the cgroup file systems.
    #[default]
    Cgroupfs,
    /// systemd, through its private socket.
    Systemd,
}

/// The containers that share a host, and die with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Grouping {
    /// All of the node: least memory.
    #[default]
    Node,
    /// Those of one Kubernetes namespace.
    Namespace,
    /// Those of one pod.
    Pod,
}

/// The lowest severity that is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Failures.
    Error,
    /// Conditions that will need attention.
    Warn,
    /// Changes of containers and of the host.
    #[default]
    Info,
    /// Requests.
    Debug,
    /// Single steps.
    Trace,
}

/// An option with a few named values.
trait Named: Copy + Sized + 'static {
    /// Every value with its name, in the documentation's order.
    const NAMES: &'static [(&'static str, Self)];

    fn named(name: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|&(_, value)| value)
    }
}

impl Named for Grouping {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("node", Self::Node),
        ("namespace", Self::Namespace),
        ("pod", Self::Pod),
    ];
}

impl Named for LogLevel {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

impl Grouping {
    /// Returns the name in the options table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Namespace => "namespace",
            Self::Pod => "pod",
        }
    }

    /// Returns the value of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::named(name)
    }
}

impl LogLevel {
    /// Returns the name in the options table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// Returns the value of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::named(name)
    }
}

/// One row of the reference page.
#[derive(Debug, Clone, Copy)]
pub struct OptionRow {
    /// The key in the options table.
    pub key: &'static str,
    /// The possible values, as error messages name them.
    pub values: &'static str,
    /// The value of a missing key.
    pub default: &'static str,
    /// The effect.
    pub meaning: &'static str,
}

/// Every key of the options table.
pub const OPTIONS: &[OptionRow] = &[
    OptionRow {
        key: "SystemdCgroup",
        values: "true or false",
        default: "false",
        meaning: "true if systemd sets up cgroups; must be `true` if and only if the kubelet's \
                  `cgroupDriver` is `systemd`",
    },
    OptionRow {
        key: "grouping",
        values: "\"node\", \"namespace\" or \"pod\"",
        default: "\"node\"",
        meaning: "containers that share a node host: all of the node, those of a Kubernetes \
                  namespace, or those of a pod. If a host dies, all its containers die. Each host \
                  costs memory",
    },
    OptionRow {
        key: "log_level",
        values: "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
        default: "\"info\"",
        meaning: "lowest severity that a host logs; at least `debug` if containerd itself has \
                  that level",
    },
    OptionRow {
        key: "max_containers",
        values: "a number from 1 to 4294967295",
        default: "no limit",
        meaning: "maximum number of containers that one host serves at a time; further ones are \
                  refused at Create, and Kubernetes retries them",
    },
];

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

impl RuntimeOptions {
    /// Returns whether [`Given::decode`] supports the type.
    pub fn has_type(type_url: &str) -> bool {
        matches!(message_name(type_url), GENERIC | RUNC)
    }

    /// Parses an options table.
    ///
    /// # Errors
    /// If it is not valid TOML, or has an unknown key or a value that is not possible.
    pub fn from_toml(text: &str) -> Result<Self, OptionsError> {
        let table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| OptionsError::NoToml {
                reason: error.message().to_owned(),
            })?;
        let mut options = Self::default();
        for (key, value) in &table {
            let row = OPTIONS
                .iter()
                .find(|row| row.key == key)
                .ok_or_else(|| OptionsError::UnknownKey { key: key.clone() })?;
            options
                .set(row.key, value)
                .ok_or_else(|| OptionsError::BadValue {
                    key: row.key,
                    value: value.to_string(),
                    values: row.values,
                })?;
        }
        Ok(options)
    }

    /// Sets an option. `None` if the key cannot have this value.
    fn set(&mut self, key: &str, value: &Toml) -> Option<()> {
        match key {
            "SystemdCgroup" => {
                self.cgroups = if value.as_bool()? {
                    CgroupDriver::Systemd
                } else {
                    CgroupDriver::Cgroupfs
                }
            }
            "grouping" => self.grouping = Grouping::from_name(value.as_str()?)?,
            "log_level" => self.log_level = LogLevel::from_name(value.as_str()?)?,
            "max_containers" => {
                self.max_containers =
                    Some(NonZeroU32::new(u32::try_from(value.as_integer()?).ok()?)?);
            }
            _ => return None,
        }
        Some(())
    }

    /// Decodes `runtimeoptions.v1.Options { type_url = 1, config_path = 2, config_body = 3 }`. The
    /// path is for containerd 1.6, which does not pass the table itself, and for `ctr run
    /// --runtime-config-path`. `None` for an empty table.
    fn decode_generic(message: &[u8]) -> Result<Option<Self>, OptionsError> {
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
                Self::from_toml(body).map(Some)
            };
        }
        let text = std::fs::read_to_string(path);
        Self::from_toml(&text.map_err(|error| OptionsError::File {
            path: path.to_owned(),
            reason: error.to_string(),
        })?)
        .map(Some)
    }

    /// Decodes `containerd.runc.v1.Options { …, systemd_cgroup = 9, … }`.
    fn decode_runc(message: &[u8]) -> Result<Self, OptionsError> {
        let systemd = wire::fields(message)?
            .iter()
            .any(|field| field.number == 9 && field.value == Value::Varint(1));
        Ok(Self {
            cgroups: if systemd {
                CgroupDriver::Systemd
            } else {
                CgroupDriver::Cgroupfs
            },
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests;
