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
    /// Who sets up cgroups; must be what kubelet's `cgroupDriver` says.
    pub cgroups: CgroupDriver,
    /// Which containers share a host.
    pub grouping: Grouping,
    /// What the host logs.
    pub log_level: LogLevel,
    /// The most containers that one host serves at once. Create beyond it is refused.
    pub max_containers: Option<NonZeroU32>,
}

/// Who sets up cgroups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupDriver {
    /// The runtime itself, in the cgroup file systems.
    #[default]
    Cgroupfs,
    /// systemd, asked over D-Bus.
    Systemd,
}

/// Which containers share a host, and with it the fate of that process.
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

/// What is logged: this, and what is graver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
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

/// An option that has one of a few names as its value.
trait Named: Copy + Sized + 'static {
    /// Every value with its name, in the order of the documentation.
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
    /// As it is written in the options table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Namespace => "namespace",
            Self::Pod => "pod",
        }
    }

    /// The value that has this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::named(name)
    }
}

impl LogLevel {
    /// As it is written in the options table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// The value that has this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::named(name)
    }
}

/// One row of the reference page.
#[derive(Debug, Clone, Copy)]
pub struct OptionRow {
    /// The key in the options table.
    pub key: &'static str,
    /// What its value may be, as error messages say it.
    pub values: &'static str,
    /// What holds without it.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// Every key of the options table.
pub const OPTIONS: &[OptionRow] = &[
    OptionRow {
        key: "SystemdCgroup",
        values: "true or false",
        default: "false",
        meaning: "whether systemd sets up cgroups; must be `true` exactly where kubelet's \
                  `cgroupDriver` is `systemd`",
    },
    OptionRow {
        key: "grouping",
        values: "\"node\", \"namespace\" or \"pod\"",
        default: "\"node\"",
        meaning: "which containers share one host process: all of the node, those of a Kubernetes \
                  namespace, or those of a pod. \
                  What ends a host ends all containers that share it; each host costs memory",
    },
    OptionRow {
        key: "log_level",
        values: "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
        default: "\"info\"",
        meaning: "what a host logs: this, and what is graver. `debug` also when containerd itself \
                  logs that much",
    },
    OptionRow {
        key: "max_containers",
        values: "a number from 1 to 4294967295",
        default: "no limit",
        meaning: "the most containers that one host serves at once; Create beyond it is refused, \
                  and Kubernetes tries again later",
    },
];

/// Why options were not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A key that [`OPTIONS`] does not have.
    #[error("unknown runtime option {key:?}: known are {}", known_keys())]
    UnknownKey {
        /// As it was written.
        key: String,
    },
    /// A value that the key cannot have.
    #[error("runtime option {key} = {value} is not possible: it is {values}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// As it was written.
        value: String,
        /// What its value may be.
        values: &'static str,
    },
    /// The table is no TOML.
    #[error("the runtime options are no TOML: {reason}")]
    NoToml {
        /// What is wrong, and where.
        reason: String,
    },
    /// The message that carries the options.
    #[error("the runtime options cannot be read")]
    Malformed(#[from] Malformed),
    /// The file that the handler names instead of a table.
    #[error("the runtime options are in the file {path}, which cannot be read: {reason}")]
    File {
        /// Its path.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// Options of the file beside the launcher, or of its copy.
    #[error("runtime options in {path}: {error}")]
    InFile {
        /// Its path.
        path: String,
        /// Why they were not accepted.
        error: Box<OptionsError>,
    },
    /// A file that another user could have written.
    #[error(
        "the options file {path} {problem}: it has to be a regular file of root's that only root \
         can write, of at most 64 KiB"
    )]
    UnsafeFile {
        /// Its path.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The launcher could not hand the file over.
    #[error("write the runtime options into the container's bundle: {path}: {reason}")]
    HandOver {
        /// Where to.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// Two places with options.
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
        /// As it was sent.
        type_url: String,
    },
}

/// What containerd sends for a handler with an options table of a runtime that it does not know.
const GENERIC: &str = "runtimeoptions.v1.Options";
/// What containerd sends for a handler without one.
const RUNC: &str = "containerd.runc.v1.Options";

/// Go's registry leaves out what stands before the name, protobuf's own libraries write a host
/// there.
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
    /// Whether [`Given::decode`] knows the type.
    pub fn has_type(type_url: &str) -> bool {
        matches!(message_name(type_url), GENERIC | RUNC)
    }

    /// Reads an options table.
    ///
    /// # Errors
    /// When it is not TOML, or holds an unknown key or a value that the key cannot have.
    pub fn of_toml(text: &str) -> Result<Self, OptionsError> {
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

    /// `None` when the key cannot have this value.
    fn set(&mut self, key: &str, value: &Toml) -> Option<()> {
        match key {
            "SystemdCgroup" => {
                self.cgroups = if value.as_bool()? {
                    CgroupDriver::Systemd
                } else {
                    CgroupDriver::Cgroupfs
                }
            }
            "grouping" => self.grouping = Grouping::of_name(value.as_str()?)?,
            "log_level" => self.log_level = LogLevel::of_name(value.as_str()?)?,
            "max_containers" => {
                self.max_containers =
                    Some(NonZeroU32::new(u32::try_from(value.as_integer()?).ok()?)?);
            }
            _ => return None,
        }
        Some(())
    }

    /// `runtimeoptions.v1.Options { type_url = 1, config_path = 2, config_body = 3 }`. The path is
    /// for containerd 1.6, which does not pass the table itself, and for `ctr run
    /// --runtime-config-path`. None for an empty table.
    fn of_generic(message: &[u8]) -> Result<Option<Self>, OptionsError> {
        let (mut path, mut body) = ("", "");
        for field in wire::fields(message)? {
            match (field.number, field.value.text()) {
                (2, Some(text)) => path = text,
                (3, Some(text)) => body = text,
                (3, None) => {
                    return Err(OptionsError::NoToml {
                        reason: "it is no UTF-8".to_owned(),
                    });
                }
                _ => {}
            }
        }
        if path.is_empty() {
            return if body.trim().is_empty() {
                Ok(None)
            } else {
                Self::of_toml(body).map(Some)
            };
        }
        let text = std::fs::read_to_string(path);
        Self::of_toml(&text.map_err(|error| OptionsError::File {
            path: path.to_owned(),
            reason: error.to_string(),
        })?)
        .map(Some)
    }

    /// `containerd.runc.v1.Options { …, systemd_cgroup = 9, … }`.
    fn of_runc(message: &[u8]) -> Result<Self, OptionsError> {
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
