//! Options of a mount, as mount(8) has them.

use super::mounts::{
    AttributeChange, Attributes, Propagation, PropagationKind, Reach, TmpfsOption,
};

/// The parsed options of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// Set if they make the mount a bind mount.
    pub(super) bind: Option<Reach>,
    pub(super) attributes: Attributes,
    pub(super) propagation: Propagation,
    /// Parameters of the file system.
    pub(super) parameters: Vec<TmpfsOption>,
}

/// The default propagation: neither side sees later mounts of the other.
pub(super) const PRIVATE: Propagation = Propagation {
    kind: PropagationKind::Private,
    reach: Reach::Recursive,
};

/// Options that restrict a mount, with their attributes.
const RESTRICT: &[(&str, u64)] = &[
    ("ro", libc::MOUNT_ATTR_RDONLY),
    ("nosuid", libc::MOUNT_ATTR_NOSUID),
    ("nodev", libc::MOUNT_ATTR_NODEV),
    ("noexec", libc::MOUNT_ATTR_NOEXEC),
    ("nodiratime", libc::MOUNT_ATTR_NODIRATIME),
    ("nosymfollow", libc::MOUNT_ATTR_NOSYMFOLLOW),
];

/// Options that undo an earlier one of the list above. They do not loosen the source's own
/// restrictions: a mount that is read-only on the node stays so.
const UNDO: &[(&str, u64)] = &[
    ("rw", libc::MOUNT_ATTR_RDONLY),
    ("suid", libc::MOUNT_ATTR_NOSUID),
    ("dev", libc::MOUNT_ATTR_NODEV),
    ("exec", libc::MOUNT_ATTR_NOEXEC),
    ("diratime", libc::MOUNT_ATTR_NODIRATIME),
    ("symfollow", libc::MOUNT_ATTR_NOSYMFOLLOW),
];

/// Modes of access times. The last one wins.
const ACCESS_TIMES: &[(&str, u64)] = &[
    ("relatime", libc::MOUNT_ATTR_RELATIME),
    ("noatime", libc::MOUNT_ATTR_NOATIME),
    ("strictatime", libc::MOUNT_ATTR_STRICTATIME),
];

/// Options that undo a mode of access times.
const UNDO_ACCESS_TIMES: &[(&str, u64)] = &[
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

/// Options for what is the case anyway.
const WITHOUT_EFFECT: &[&str] = &[
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

/// Returns the propagation that `word` names.
pub(super) fn propagation(word: &str) -> Option<Propagation> {
    find(PROPAGATION, word)
}

impl Options {
    /// Parses all options. The defaults are mount(8)'s: no bind mount, no change, private.
    ///
    /// # Errors
    /// The first option that is not supported.
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
            _ if WITHOUT_EFFECT.contains(&word) => {}
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

/// Changes `attributes` if `word` is an option of attributes.
fn change(attributes: &mut AttributeChange, word: &str) -> Option<()> {
    if let Some(bit) = find(RESTRICT, word) {
        attributes.set |= bit;
    } else if let Some(bit) = find(UNDO, word) {
        attributes.set &= !bit;
    } else if let Some(mode) = find(ACCESS_TIMES, word) {
        attributes.set = attributes.set & !libc::MOUNT_ATTR__ATIME | mode;
        attributes.clear |= libc::MOUNT_ATTR__ATIME;
    } else {
        let mode = find(UNDO_ACCESS_TIMES, word)?;
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
