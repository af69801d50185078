//! The standard streams of a container's process.

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::OwnedFd;

use oci_spec::runtime::{Process, Spec};
use rustix::fs::{FileType, Uid, fchown, fstat};

use crate::error::NativeError;

/// The standard streams of a process. A missing one is `/dev/null`.
#[derive(Debug, Default)]
pub struct Stdio {
    /// Standard input.
    pub stdin: Option<OwnedFd>,
    /// Standard output.
    pub stdout: Option<OwnedFd>,
    /// Standard error.
    pub stderr: Option<OwnedFd>,
    /// The process's side of a terminal: all three streams, and the process's controlling terminal.
    pub terminal: Option<OwnedFd>,
}

/// The three streams as a worker gets them.
pub(crate) struct Streams {
    pub(crate) descriptors: [OwnedFd; 3],
    pub(crate) terminal: Terminal,
}

/// Whether the streams are the process's controlling terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Terminal {
    Yes,
    No,
}

impl Stdio {
    pub(crate) fn streams(self) -> Result<Streams, NativeError> {
        let kernel = |source| NativeError::Kernel {
            action: "open the standard streams",
            source,
        };
        if let Some(terminal) = self.terminal {
            let descriptors = [
                terminal.try_clone().map_err(kernel)?,
                terminal.try_clone().map_err(kernel)?,
                terminal,
            ];
            return Ok(Streams {
                descriptors,
                terminal: Terminal::Yes,
            });
        }
        let null = || {
            File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .map(OwnedFd::from)
                .map_err(kernel)
        };
        let or_null = |stream: Option<OwnedFd>| stream.map_or_else(null, Ok);
        Ok(Streams {
            descriptors: [
                or_null(self.stdin)?,
                or_null(self.stdout)?,
                or_null(self.stderr)?,
            ],
            terminal: Terminal::No,
        })
    }
}

impl Streams {
    /// Makes the process's user the owner of pipes and terminals: many images open `/dev/stdout`
    /// anew, which the kernel allows only to the owner of a pipe. A failure is only logged: some
    /// file systems have no owners.
    pub(crate) fn give_to(&self, owner: u32) {
        if owner == 0 {
            return;
        }
        for stream in &self.descriptors {
            let Ok(stat) = fstat(stream) else { continue };
            let kind = FileType::from_raw_mode(stat.st_mode);
            let has_owner = kind == FileType::Fifo
                || (kind == FileType::CharacterDevice && stream.is_terminal());
            if has_owner && let Err(error) = fchown(stream, Some(Uid::from_raw(owner)), None) {
                tracing::debug!(%error, owner, "a standard stream cannot be given to the \
                                                container's user");
            }
        }
    }
}

/// Returns the user of `process` as the host sees it: mapped, if the container has a user
/// namespace.
pub(crate) fn host_user(spec: &Spec, process: &Process) -> u32 {
    let user = process.user().uid();
    let mappings = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.uid_mappings().as_ref());
    mappings
        .into_iter()
        .flatten()
        .find(|mapping| {
            (mapping.container_id()..mapping.container_id().saturating_add(mapping.size()))
                .contains(&user)
        })
        .map_or(user, |mapping| {
            mapping.host_id() + (user - mapping.container_id())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_of(spec: &str) -> u32 {
        let spec: Spec = serde_json::from_str(spec).unwrap();
        host_user(&spec, spec.process().as_ref().unwrap())
    }

    #[test]
    fn host_user_is_mapped_if_there_is_a_mapping() {
        let process =
            r#""ociVersion": "1.1.0", "process": {"cwd": "/", "user": {"uid": 1000, "gid": 0}}"#;
        assert_eq!(user_of(&format!("{{{process}}}")), 1000);
        let mapping =
            r#""linux": {"uidMappings": [{"containerID": 0, "hostID": 65536, "size": 65536}]}"#;
        assert_eq!(user_of(&format!("{{{process}, {mapping}}}")), 66536);
    }

    #[test]
    fn missing_streams_are_null() {
        let streams = Stdio::default().streams().unwrap();
        assert_eq!(streams.terminal, Terminal::No);
        let null = std::fs::metadata("/dev/null").unwrap();
        for stream in &streams.descriptors {
            let stat = fstat(stream).unwrap();
            assert_eq!(stat.st_rdev, std::os::unix::fs::MetadataExt::rdev(&null));
        }
    }
}
