//! The command line with which a launcher starts a host: one type writes and parses it.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU32;
use std::path::PathBuf;

use super::HostKey;
use runtime_options::{Grouping, LogLevel};

/// The parameters of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostArguments {
    /// The launcher's path in its runtime bundle.
    pub launcher: PathBuf,
    /// containerd's namespace.
    pub namespace: String,
    /// containerd's own socket.
    pub address: String,
    /// The container for which the host is started.
    pub id: String,
    /// The key of the containers that it serves.
    pub key: HostKey,
    /// The path of the socket on descriptor [`super::SOCKET_FD`].
    pub socket: PathBuf,
    /// The grouping of containers by hosts.
    pub grouping: Grouping,
    /// The log level.
    pub log_level: LogLevel,
    /// The maximum number of containers that it serves at once, including pods of the Sandbox API:
    /// containerd does not pass options when it creates those.
    pub max_containers: Option<NonZeroU32>,
}

/// A command line that no launcher wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentsError {
    /// An unknown argument.
    #[error("unknown argument {0:?}: this program is started by the launcher")]
    Unknown(OsString),
    /// An argument without a value, or with a value that is not valid.
    #[error(
        "argument {0} is missing or has a value that it cannot have: this program is started by \
         the launcher"
    )]
    Value(&'static str),
}

const LAUNCHER: &str = "--launcher";
const NAMESPACE: &str = "-namespace";
const ADDRESS: &str = "-address";
const ID: &str = "-id";
const KEY: &str = "--key";
const SOCKET: &str = "--socket";
const GROUPING: &str = "--grouping";
const LOG_LEVEL: &str = "--log-level";
const MAX_CONTAINERS: &str = "--max-containers";

impl HostArguments {
    /// Returns the arguments, without the program's name.
    pub fn to_args(&self) -> Vec<OsString> {
        let Self {
            launcher,
            namespace,
            address,
            id,
            key,
            socket,
            grouping,
            log_level,
            max_containers,
        } = self;
        let most = max_containers.map(|most| most.to_string());
        let pairs: [(&str, &OsStr); 8] = [
            (NAMESPACE, namespace.as_ref()),
            (ADDRESS, address.as_ref()),
            (ID, id.as_ref()),
            (KEY, key.as_str().as_ref()),
            (SOCKET, socket.as_os_str()),
            (GROUPING, grouping.as_str().as_ref()),
            (LOG_LEVEL, log_level.as_str().as_ref()),
            (LAUNCHER, launcher.as_os_str()),
        ];
        let limit = most
            .as_deref()
            .map(|most| (MAX_CONTAINERS, OsStr::new(most)));
        pairs
            .into_iter()
            .chain(limit)
            .flat_map(|(name, value)| [OsString::from(name), value.to_owned()])
            .collect()
    }

    /// Parses the result of [`HostArguments::to_args`].
    ///
    /// # Errors
    /// If the arguments have another form.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, ArgumentsError> {
        let mut given = Given(Vec::new());
        let mut args = args.into_iter();
        while let Some(name) = args.next() {
            let known = [
                LAUNCHER,
                NAMESPACE,
                ADDRESS,
                ID,
                KEY,
                SOCKET,
                GROUPING,
                LOG_LEVEL,
                MAX_CONTAINERS,
            ];
            let known = known.into_iter().find(|&known| name == known);
            let known = known.ok_or(ArgumentsError::Unknown(name))?;
            given
                .0
                .push((known, args.next().ok_or(ArgumentsError::Value(known))?));
        }
        Ok(Self {
            launcher: PathBuf::from(given.value(LAUNCHER)?),
            namespace: given.text(NAMESPACE, |text| Some(text.to_owned()))?,
            address: given.text(ADDRESS, |text| Some(text.to_owned()))?,
            id: given.text(ID, |text| Some(text.to_owned()))?,
            key: given.text(KEY, HostKey::from_name)?,
            socket: PathBuf::from(given.value(SOCKET)?),
            grouping: given.text(GROUPING, Grouping::from_name)?,
            log_level: given.text(LOG_LEVEL, LogLevel::from_name)?,
            max_containers: match given.value(MAX_CONTAINERS) {
                Ok(_) => Some(given.text(MAX_CONTAINERS, |text| text.parse().ok())?),
                Err(_) => None,
            },
        })
    }
}

struct Given(Vec<(&'static str, OsString)>);

impl Given {
    fn value(&self, name: &'static str) -> Result<&OsStr, ArgumentsError> {
        let found = self.0.iter().find(|(given, _)| *given == name);
        found
            .map(|(_, value)| value.as_os_str())
            .ok_or(ArgumentsError::Value(name))
    }

    fn text<T>(
        &self,
        name: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ArgumentsError> {
        self.value(name)?
            .to_str()
            .and_then(read)
            .ok_or(ArgumentsError::Value(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Group;
    use std::path::Path;

    fn arguments() -> HostArguments {
        HostArguments {
            launcher: PathBuf::from("/opt/bundle/bin/launcher"),
            namespace: "k8s.io".to_owned(),
            address: "/run/containerd/containerd.sock".to_owned(),
            id: "-debug".to_owned(),
            key: HostKey::new("a", "b", Path::new("c"), "d", &Group::Node),
            socket: PathBuf::from("/run/containerd/s/x"),
            grouping: Grouping::Pod,
            log_level: LogLevel::Debug,
            max_containers: NonZeroU32::new(250),
        }
    }

    #[test]
    fn host_parses_what_the_launcher_wrote() {
        for max_containers in [None, NonZeroU32::new(250)] {
            let arguments = HostArguments {
                max_containers,
                ..arguments()
            };
            assert_eq!(HostArguments::parse(arguments.to_args()), Ok(arguments));
        }
    }

    #[test]
    fn unknown_or_incomplete_arguments_are_refused_by_name() {
        let parse = |args: &[&str]| {
            HostArguments::parse(args.iter().map(OsString::from))
                .unwrap_err()
                .to_string()
        };
        assert!(parse(&["serve"]).contains("serve"));
        assert!(parse(&["-namespace"]).contains("-namespace"));
        assert!(parse(&[LAUNCHER, "/launcher", NAMESPACE, "n"]).contains(ADDRESS));
        for (name, value) in [(KEY, "../../key"), (MAX_CONTAINERS, "0")] {
            let mut args = arguments().to_args();
            let at = args.iter().position(|arg| arg == name).unwrap();
            args[at + 1] = OsString::from(value);
            assert_eq!(HostArguments::parse(args), Err(ArgumentsError::Value(name)));
        }
    }
}
