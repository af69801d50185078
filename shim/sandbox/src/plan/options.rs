//! The options of a mount: words, as mount(8) has them.

use super::mounts::{
    AttributeChange, Attributes, Propagation, PropagationKind, Reach, TmpfsOption,
};

/// What a mount's options say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// Set when they make the mount a bind mount.
    pub(super) bind: Option<Reach>,
    pub(super) attributes: Attributes,
    pub(super) propagation: Propagation,
    /// Parameters of the file system.
    pub(super) parameters: Vec<TmpfsOption>,
}

/// What nobody said: neither side sees the other's later mounts.
pub(super) const PRIVATE: Propagation = Propagation {
    kind: PropagationKind::Private,
    reach: Reach::Recursive,
};

/// Words that restrict a mount, and the attribute that each sets.
const RESTRICT: &[(&str, u64)] = &[
    ("ro", libc::MOUNT_ATTR_RDONLY),
    ("nosuid", libc::MOUNT_ATTR_NOSUID),
    ("nodev", libc::MOUNT_ATTR_NODEV),
    ("noexec", libc::MOUNT_ATTR_NOEXEC),
    ("nodiratime", libc::MOUNT_ATTR_NODIRATIME),
    ("nosymfollow", libc::MOUNT_ATTR_NOSYMFOLLOW),
];

/// Words that take back one of the list before them. They loosen nothing that the source itself
/// has: a mount that is read-only on the node stays so, whatever a pod says.
const TAKE_BACK: &[(&str, u64)] = &[
    ("rw", libc::MOUNT_ATTR_RDONLY),
    ("suid", libc::MOUNT_ATTR_NOSUID),
    ("dev", libc::MOUNT_ATTR_NODEV),
    ("exec", libc::MOUNT_ATTR_NOEXEC),
    ("diratime", libc::MOUNT_ATTR_NODIRATIME),
    ("symfollow", libc::MOUNT_ATTR_NOSYMFOLLOW),
];

/// When the time of access is written. One mode replaces another.
const ACCESS_TIMES: &[(&str, u64)] = &[
    ("relatime", libc::MOUNT_ATTR_RELATIME),
    ("noatime", libc::MOUNT_ATTR_NOATIME),
    ("strictatime", libc::MOUNT_ATTR_STRICTATIME),
];

/// Words that take back a mode of access times.
const TAKE_BACK_ACCESS_TIMES: &[(&str, u64)] = &[
    ("norelatime", libc::MOUNT_ATTR_RELATIME),
    ("atime", libc::MOUNT_ATTR_NOATIME),
    ("nostrictatime", libc::MOUNT_ATTR_STRICTATIME),
];

const PROPAGATION: &[(&str, Propagation)] = &[
    (
        "private",
        Propagation {
            kind: PropagationKind::Private,
            reach: Reach::Single,
        },
    ),
    ("rprivate", PRIVATE),
    (
        "slave",
        Propagation {
            kind: PropagationKind::Slave,
            reach: Reach::Single,
        },
    ),
    (
        "rslave",
        Propagation {
            kind: PropagationKind::Slave,
            reach: Reach::Recursive,
        },
    ),
    (
        "shared",
        Propagation {
            kind: PropagationKind::Shared,
            reach: Reach::Single,
        },
    ),
    (
        "rshared",
        Propagation {
            kind: PropagationKind::Shared,
            reach: Reach::Recursive,
        },
    ),
    (
        "unbindable",
        Propagation {
            kind: PropagationKind::Unbindable,
            reach: Reach::Single,
        },
    ),
    (
        "runbindable",
        Propagation {
            kind: PropagationKind::Unbindable,
            reach: Reach::Recursive,
        },
    ),
];

/// Words that ask for what is so anyway.
const ALREADY_SO: &[&str] = &[
    "defaults",
    "async",
    "loud",
    "silent",
    "nomand",
    "noiversion",
    "nolazytime",
    "noacl",
];

/// Parameters of a file system in memory (tmpfs(5)).
const TMPFS: &[&str] = &[
    "size",
    "nr_blocks",
    "nr_inodes",
    "mode",
    "uid",
    "gid",
    "huge",
    "mpol",
    "noswap",
    "inode32",
    "inode64",
];

/// The propagation that `word` names.
pub(super) fn propagation(word: &str) -> Option<Propagation> {
    find(PROPAGATION, word)
}

impl Options {
    /// Reads all words. What none of them says is as `mount` gives it: no bind mount, no change,
    /// private.
    ///
    /// # Errors
    /// The word that means nothing here.
    pub(super) fn read(words: &[String]) -> Result<Self, &str> {
        let mut options = Self {
            bind: None,
            attributes: Attributes::default(),
            propagation: PRIVATE,
            parameters: Vec::new(),
        };
        for word in words {
            options.take(word).ok_or(word.as_str())?;
        }
        Ok(options)
    }

    fn take(&mut self, word: &str) -> Option<()> {
        match word {
            "bind" => self.bind = Some(Reach::Single),
            "rbind" => self.bind = Some(Reach::Recursive),
            _ if ALREADY_SO.contains(&word) => {}
            _ => {
                if let Some(propagation) = propagation(word) {
                    self.propagation = propagation;
                } else if change(&mut self.attributes.top, word).is_none() {
                    let below = word
                        .strip_prefix('r')
                        .and_then(|word| change(&mut self.attributes.tree, word));
                    return below.or_else(|| self.parameter(word));
                }
            }
        }
        Some(())
    }

    fn parameter(&mut self, word: &str) -> Option<()> {
        let (key, value) = word
            .split_once('=')
            .map_or((word, None), |(key, value)| (key, Some(value.to_owned())));
        let known = TMPFS.contains(&key);
        known.then(|| {
            self.parameters.push(TmpfsOption {
                key: key.to_owned(),
                value,
            });
        })
    }
}

/// Changes `attributes` as `word` says, if it is about attributes.
fn change(attributes: &mut AttributeChange, word: &str) -> Option<()> {
    if let Some(bit) = find(RESTRICT, word) {
        attributes.set |= bit;
    } else if let Some(bit) = find(TAKE_BACK, word) {
        attributes.set &= !bit;
    } else if let Some(mode) = find(ACCESS_TIMES, word) {
        attributes.set = attributes.set & !libc::MOUNT_ATTR__ATIME | mode;
        attributes.clear |= libc::MOUNT_ATTR__ATIME;
    } else {
        let mode = find(TAKE_BACK_ACCESS_TIMES, word)?;
        if attributes.set & libc::MOUNT_ATTR__ATIME == mode {
            attributes.set &= !libc::MOUNT_ATTR__ATIME;
            attributes.clear &= !libc::MOUNT_ATTR__ATIME;
        }
    }
    Some(())
}

fn find<T: Copy>(table: &[(&str, T)], word: &str) -> Option<T> {
    table
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, meaning)| *meaning)
}
