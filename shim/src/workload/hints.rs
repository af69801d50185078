//! Workloads of earlier containers with the same files and entrypoint. A hint decides whether a
//! look-up starts while containerd resolves the image, and spares it the digest of a file that it
//! finds unchanged. It never decides what runs.

use std::sync::Mutex;

use guest_sandbox::rootfs::Mount;

use super::digest::FileDigest;
use super::{Bytes, CommandLine, Workload};

/// Maximum number of hints.
const MAX_HINTS: usize = 512;

/// The workload of an earlier container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hint {
    /// A guest of a Wasm layer.
    Layer,
    /// A guest of a file, with its digest if that can be used again.
    File(Option<FileDigest>),
    /// A Linux program.
    Native,
    /// Not known.
    Unknown,
}

impl Hint {
    /// Returns whether to look up the entrypoint before containerd has answered for the image's
    /// layers.
    pub(crate) fn looks_up_early(self) -> bool {
        matches!(self, Self::File(_) | Self::Native)
    }

    /// Returns the digest of the file of an earlier guest.
    pub(crate) fn known(self) -> Option<FileDigest> {
        match self {
            Self::File(known) => known,
            Self::Layer | Self::Native | Self::Unknown => None,
        }
    }
}

/// The files and the entrypoint of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(String, String);

impl Key {
    /// Returns the key; none if the files are the container's alone: an overlay has its image's.
    pub(crate) fn of(rootfs: &[Mount], command: CommandLine<'_>) -> Option<Self> {
        let options = rootfs.iter().flat_map(|mount| &mount.options);
        let below = options
            .into_iter()
            .find_map(|option| option.strip_prefix("lowerdir="))?;
        Some(Self(below.to_owned(), command.args.first()?.clone()))
    }
}

/// The hints of a host; the latest at the end.
#[derive(Debug, Default)]
pub(crate) struct Hints(Mutex<Vec<(Key, Hint)>>);

impl Hints {
    /// Returns the hint for a container.
    pub(crate) fn get(&self, key: Option<&Key>) -> Hint {
        // Every change leaves the list consistent, also if its last holder panicked.
        let all = failures::lock_ignoring_poison(&self.0);
        let known = key.and_then(|key| all.iter().rev().find(|(known, _)| known == key));
        known.map_or(Hint::Unknown, |(_, hint)| *hint)
    }

    /// Records the workload of a container.
    pub(crate) fn put(&self, key: Option<Key>, workload: &Workload) {
        let Some(key) = key else { return };
        let hint = match workload {
            Workload::Native => Hint::Native,
            Workload::Guest(guest) => match &guest.bytes {
                Bytes::Memory(_) => Hint::Layer,
                Bytes::File { .. } => Hint::File(guest.known()),
            },
        };
        let mut all = failures::lock_ignoring_poison(&self.0);
        all.retain(|(known, _)| *known != key);
        all.push((key, hint));
        let surplus = all.len().saturating_sub(MAX_HINTS);
        all.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(below: &str, entrypoint: &str) -> Option<Key> {
        let options = vec!["upperdir=/u".to_owned(), format!("lowerdir={below}")];
        let mount = Mount {
            fs_type: "overlay".to_owned(),
            options,
            ..Mount::default()
        };
        Key::of(
            &[mount],
            CommandLine {
                args: &[entrypoint.to_owned()],
                env: &[],
                cwd: std::path::Path::new("/"),
            },
        )
    }

    #[test]
    fn hint_is_the_last_workload_with_the_same_files_and_entrypoint() {
        let hints = Hints::default();
        let get = |below, entrypoint| hints.get(key(below, entrypoint).as_ref());
        assert_eq!(get("/1", "/app.wasm"), Hint::Unknown);
        hints.put(key("/1", "/app.wasm"), &Workload::Native);
        assert_eq!(get("/1", "/app.wasm"), Hint::Native);
        assert_eq!(get("/2", "/app.wasm"), Hint::Unknown);
        assert_eq!(get("/1", "/app"), Hint::Unknown);
        for number in 0..MAX_HINTS {
            hints.put(key(&number.to_string(), "/app"), &Workload::Native);
        }
        assert_eq!(get("/1", "/app.wasm"), Hint::Unknown);
        assert_eq!(
            Key::of(
                &[Mount::default()],
                CommandLine {
                    args: &["/a".to_owned()],
                    env: &[],
                    cwd: std::path::Path::new("/")
                }
            ),
            None
        );
    }
}
