//! The options that containerd gives with a request, and how they combine with an options file.

use super::{GENERIC, OptionsError, RUNC, RuntimeOptions, file::OptionsFile, message_name};

/// The options that containerd gives with a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Given {
    /// None: the handler has no options table, or an empty one.
    #[default]
    Nothing,
    /// The handler's options table.
    Table(RuntimeOptions),
    /// Options of runc's. For a pod with a user namespace containerd sends them for a handler
    /// without a table too, to name the owner of the streams.
    Runc(RuntimeOptions),
}

impl Given {
    /// Decodes what a `google.protobuf.Any` with runtime options holds: the table, or the path of a
    /// file with it. An empty type stands for no options at all. From runc's options only the
    /// cgroup driver is taken.
    ///
    /// # Errors
    /// When they are of another type, hold an unknown key or a value that the key cannot have, or
    /// their file cannot be read.
    pub fn decode(type_url: &str, value: &[u8]) -> Result<Self, OptionsError> {
        match message_name(type_url) {
            "" => Ok(Self::Nothing),
            GENERIC => Ok(RuntimeOptions::of_generic(value)?.map_or(Self::Nothing, Self::Table)),
            RUNC => RuntimeOptions::of_runc(value).map(Self::Runc),
            _ => Err(OptionsError::UnknownType {
                type_url: type_url.to_owned(),
            }),
        }
    }

    /// Returns the options for a new container of a handler with this options file, if there is
    /// one.
    ///
    /// # Errors
    /// When options are in both places. Neither is preferred: nobody would notice that the other
    /// does nothing.
    pub fn with_file(self, file: Option<&OptionsFile>) -> Result<RuntimeOptions, OptionsError> {
        match (self, file) {
            (Self::Nothing, None) => Ok(RuntimeOptions::default()),
            (Self::Table(options) | Self::Runc(options), None) => Ok(options),
            // The owner of the streams alone.
            (Self::Nothing, Some(file)) => Ok(file.options),
            (Self::Runc(options), Some(file)) if options == RuntimeOptions::default() => {
                Ok(file.options)
            }
            (Self::Table(_) | Self::Runc(_), Some(file)) => Err(OptionsError::TwoSources {
                path: file.path.display().to_string(),
            }),
        }
    }

    /// Returns the options for a container that is created: its own table counts, then the file
    /// that the launcher read for it, then what its pod's sandbox was created with.
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
    use crate::options::{CgroupDriver, LogLevel};

    const PLAIN: RuntimeOptions = RuntimeOptions {
        cgroups: CgroupDriver::Cgroupfs,
        grouping: crate::options::Grouping::Node,
        log_level: LogLevel::Info,
        max_containers: None,
    };
    const SYSTEMD: RuntimeOptions = RuntimeOptions {
        cgroups: CgroupDriver::Systemd,
        ..PLAIN
    };
    const LOUD: RuntimeOptions = RuntimeOptions {
        log_level: LogLevel::Debug,
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
    fn container_has_its_own_options_before_those_of_its_pod() {
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
