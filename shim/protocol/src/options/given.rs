//! The options of a request, and their combination with an options file.

use runtime_options::RuntimeOptions;

use super::file::OptionsFile;
use super::{GENERIC, OptionsError, RUNC, decode_generic, decode_runc, message_name};

/// The options of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
            (Self::Nothing, Some(file)) => Ok(file.options),
            (Self::Runc(options), Some(file)) if options == RuntimeOptions::default() => {
                Ok(file.options)
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
    use runtime_options::{CgroupDriver, Grouping, HandlerOptions, LogLevel};

    const PLAIN: RuntimeOptions = RuntimeOptions {
        cgroup_driver: CgroupDriver::Cgroupfs,
        handler: HandlerOptions {
            grouping: Grouping::Node,
            log_level: LogLevel::Info,
            max_containers: None,
        },
    };
    const SYSTEMD: RuntimeOptions = RuntimeOptions {
        cgroup_driver: CgroupDriver::Systemd,
        ..PLAIN
    };
    const LOUD: RuntimeOptions = RuntimeOptions {
        handler: HandlerOptions {
            log_level: LogLevel::Debug,
            ..PLAIN.handler
        },
        ..PLAIN
    };

    #[test]
    fn options_of_a_new_container_come_from_one_place() {
        let file = OptionsFile {
            path: PathBuf::from("/entry/options.toml"),
            text: String::new(),
            options: LOUD,
        };
        for (given, with_file, expected) in [
            (Given::Nothing, false, Ok(PLAIN)),
            (Given::Nothing, true, Ok(LOUD)),
            (Given::Table(SYSTEMD), false, Ok(SYSTEMD)),
            (Given::Table(SYSTEMD), true, Err(())),
            (Given::Table(LOUD), true, Err(())),
            (Given::Runc(SYSTEMD), false, Ok(SYSTEMD)),
            (Given::Runc(SYSTEMD), true, Err(())),
            (Given::Runc(PLAIN), true, Ok(LOUD)),
        ] {
            let found = given.with_file(with_file.then_some(&file));
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
            (Given::Nothing, None, None, PLAIN),
            (Given::Nothing, None, Some(SYSTEMD), SYSTEMD),
            (Given::Nothing, Some(LOUD), Some(SYSTEMD), LOUD),
            (Given::Runc(PLAIN), None, Some(SYSTEMD), SYSTEMD),
            (Given::Runc(SYSTEMD), None, None, SYSTEMD),
            (Given::Table(LOUD), None, Some(SYSTEMD), LOUD),
            (Given::Table(LOUD), Some(PLAIN), Some(SYSTEMD), LOUD),
        ] {
            assert_eq!(
                given.for_container(file, pod),
                expected,
                "{given:?} {file:?} {pod:?}"
            );
        }
    }
}
