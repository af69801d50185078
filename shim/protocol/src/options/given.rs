//! The options of a request, and their combination with an options file.

use runtime_options::RuntimeOptions;

use super::file::OptionsFile;
use super::{GENERIC, OptionsError, RUNC, decode_generic, decode_runc, message_name};

/// The options of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Given {
    /// None: the handler has no options table, or an empty one.
    #[default]
    Nothing,
    /// The handler's options table.
    Table(RuntimeOptions),
    /// runc's options. For a pod with a user namespace containerd sends them for a handler without
    /// a table too, with the owner of the streams.
    Runc(RuntimeOptions),
}

impl Given {
    /// Decodes a `google.protobuf.Any` with runtime options: the table, or the path of a file with
    /// it. An empty type means no options. From runc's options only the cgroup driver is used.
    ///
    /// # Errors
    /// If they are of another type, have an unknown key or a value that is not possible, or their
    /// file cannot be read.
    pub fn decode(type_url: &str, value: &[u8]) -> Result<Self, OptionsError> {
        match message_name(type_url) {
            "" => Ok(Self::Nothing),
            GENERIC => Ok(decode_generic(value)?.map_or(Self::Nothing, Self::Table)),
            RUNC => decode_runc(value).map(Self::Runc),
            _ => Err(OptionsError::UnknownType {
                type_url: type_url.to_owned(),
            }),
        }
    }

    /// Returns the options for a new container of a handler; `file` is its options file, if it has
    /// one.
    ///
    /// # Errors
    /// If both places have options. Neither takes precedence, because the other would have no
    /// effect without notice.
    pub fn with_file(self, file: Option<&OptionsFile>) -> Result<RuntimeOptions, OptionsError> {
        match (self, file) {
            (Self::Nothing, None) => Ok(RuntimeOptions::default()),
            (Self::Table(options) | Self::Runc(options), None) => Ok(options),
            // Only the owner of the streams.
            (Self::Nothing, Some(file)) => Ok(file.options.clone()),
            (Self::Runc(options), Some(file)) if options == RuntimeOptions::default() => {
                Ok(file.options.clone())
            }
            (Self::Table(_) | Self::Runc(_), Some(file)) => Err(OptionsError::TwoSources {
                path: file.path.display().to_string(),
            }),
        }
    }

    /// Returns the options for a container that is created: from its own table, else from the file
    /// that the launcher copied for it, else from its pod's sandbox.
    #[must_use]
    pub fn for_container(
        self,
        file: Option<RuntimeOptions>,
        pod: Option<RuntimeOptions>,
    ) -> RuntimeOptions {
        let without_table = match self {
            Self::Table(options) => return options,
            Self::Runc(options) => options,
            Self::Nothing => RuntimeOptions::default(),
        };
        file.or(pod).unwrap_or(without_table)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use runtime_options::{CgroupDriver, HandlerOptions, LogLevel};

    fn plain() -> RuntimeOptions {
        RuntimeOptions::default()
    }

    fn systemd() -> RuntimeOptions {
        RuntimeOptions {
            cgroup_driver: CgroupDriver::Systemd,
            ..plain()
        }
    }

    fn loud() -> RuntimeOptions {
        RuntimeOptions {
            handler: HandlerOptions {
                log_level: LogLevel::Debug,
                ..HandlerOptions::default()
            },
            ..plain()
        }
    }

    #[test]
    fn options_of_a_new_container_come_from_one_place() {
        let file = OptionsFile {
            path: PathBuf::from("/entry/options.toml"),
            text: String::new(),
            options: loud(),
        };
        for (given, with_file, expected) in [
            (Given::Nothing, false, Ok(plain())),
            (Given::Nothing, true, Ok(loud())),
            (Given::Table(systemd()), false, Ok(systemd())),
            (Given::Table(systemd()), true, Err(())),
            (Given::Table(loud()), true, Err(())),
            (Given::Runc(systemd()), false, Ok(systemd())),
            (Given::Runc(systemd()), true, Err(())),
            (Given::Runc(plain()), true, Ok(loud())),
        ] {
            let found = given.clone().with_file(with_file.then_some(&file));
            if let Err(error) = &found {
                let text = error.to_string();
                assert!(
                    text.contains("/entry/options.toml") && text.contains("options table"),
                    "{text}"
                );
            }
            assert_eq!(
                found.map_err(|_| ()),
                expected,
                "{given:?}, with a file: {with_file}"
            );
        }
    }

    #[test]
    fn own_options_of_a_container_take_precedence_over_its_pods() {
        for (given, file, pod, expected) in [
            (Given::Nothing, None, None, plain()),
            (Given::Nothing, None, Some(systemd()), systemd()),
            (Given::Nothing, Some(loud()), Some(systemd()), loud()),
            (Given::Runc(plain()), None, Some(systemd()), systemd()),
            (Given::Runc(systemd()), None, None, systemd()),
            (Given::Table(loud()), None, Some(systemd()), loud()),
            (Given::Table(loud()), Some(plain()), Some(systemd()), loud()),
        ] {
            let case = format!("{given:?} {file:?} {pod:?}");
            assert_eq!(given.for_container(file, pod), expected, "{case}");
        }
    }
}
