//! Decides which entries of an archive are admitted, before they are written.

use std::collections::BTreeMap;
use std::fmt;

use super::{MAX_ENTRIES, MAX_TOTAL_SIZE};

/// The only top folder of an archive.
const TOP: &str = "wasmedge-runtime";
/// Maximum bytes of a path: more than ours have, and supported by every file system.
const MAX_PATH_LENGTH: usize = 512;
/// Maximum letters of a version, which becomes part of a folder's name.
const MAX_VERSION_LENGTH: usize = 64;
/// Maximum number of links on one path, as in the kernel (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The cause for which an entry is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its path is absolute, has `..`, or is not plain text.
    Path,
    /// It is outside of `wasmedge-runtime/<version>`, or in a second version.
    Place,
    /// It is neither a file nor a folder nor a symbolic link.
    Kind,
    /// It has a setuid, setgid or sticky bit.
    Mode,
    /// It is a link that leads out of the folder, directly or through other links of the archive,
    /// or in a loop.
    Link,
    /// An earlier entry has its path, or is a file or link in the place of its folder.
    Twice,
    /// It is too large, or there are too many entries.
    Size,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Path => "its path is absolute, has a \"..\", is too long, or is not plain text",
            Self::Place => "it is not in the one folder wasmedge-runtime/<version>",
            Self::Kind => "it is neither a file nor a folder nor a symbolic link",
            Self::Mode => "it has a setuid, setgid or sticky bit",
            Self::Link => "it is a link that leads out of the runtime's folder, or in a loop",
            Self::Twice => "another entry has its path",
            Self::Size => "the archive is larger than a runtime",
        })
    }
}

/// An entry's header.
#[derive(Debug, Clone)]
pub(super) struct EntryHeader<'a> {
    /// Its path in the archive.
    pub(super) path: &'a [u8],
    /// Its kind.
    pub(super) kind: EntryKind<'a>,
    /// Its mode.
    pub(super) mode: u32,
    /// Its size in bytes.
    pub(super) size: u64,
}

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind<'a> {
    Folder,
    File,
    /// A symbolic link and its target.
    Link(&'a [u8]),
    /// Anything else: devices, pipes, hard links, extensions of the format.
    Other,
}

/// A file, folder or link to create below the runtime's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Its path; not empty.
    pub(super) path: String,
    /// Its kind.
    pub(super) what: ItemKind,
    /// The folders to create before it, outermost first.
    pub(super) folders: Vec<String>,
}

/// The kind of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ItemKind {
    Folder,
    /// A file with this mode.
    File(u32),
    /// A link with this target.
    Link(String),
}

/// The admitted entries so far.
#[derive(Debug, Default)]
pub(super) struct Tree {
    version: Option<String>,
    /// The kind of each path.
    known: BTreeMap<String, Known>,
    /// The target of each link, by the link's path.
    links: BTreeMap<String, String>,
    entries: usize,
    total: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Folder,
    /// Nothing can lie in it.
    Leaf,
}

impl Tree {
    /// Returns the version, from the name of the folder below the top folder.
    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Admits an entry and returns what to create; none for the two outermost folders.
    pub(super) fn admit(&mut self, header: &EntryHeader<'_>) -> Result<Option<Item>, Refusal> {
        self.entries += 1;
        self.total = self.total.saturating_add(header.size);
        if self.entries > MAX_ENTRIES || self.total > MAX_TOTAL_SIZE {
            return Err(Refusal::Size);
        }
        if header.mode & 0o7000 != 0 {
            return Err(Refusal::Mode);
        }
        let Some(path) = self.place(header)? else {
            return Ok(None);
        };
        let what = match header.kind {
            EntryKind::Folder => ItemKind::Folder,
            // Only the execute bits are taken over: only root may write.
            EntryKind::File => ItemKind::File(if header.mode & 0o111 == 0 {
                0o644
            } else {
                0o755
            }),
            EntryKind::Link(target) => ItemKind::Link(inner_target(&path, target)?),
            EntryKind::Other => return Err(Refusal::Kind),
        };
        let folders = self.enter(&path, &what)?;
        if let ItemKind::Link(target) = &what {
            self.links.insert(path.clone(), target.clone());
        }
        Ok(Some(Item {
            path,
            what,
            folders,
        }))
    }

    /// Returns the first link that leads out of the runtime's folder, or in a loop, when the kernel
    /// follows it. Call it after all entries: a link may lead through links that come later.
    pub(super) fn escaping_link(&self) -> Option<&str> {
        self.links
            .keys()
            .map(String::as_str)
            .find(|link| !self.stays_inside(link))
    }

    /// Follows the link at `link` and all links on its way. An absent path or a file counts as a
    /// folder.
    fn stays_inside(&self, link: &str) -> bool {
        let mut behind: Vec<&str> = Vec::new();
        let mut ahead: Vec<&str> = link.rsplit('/').collect();
        let mut followed = 0;
        while let Some(name) = ahead.pop() {
            match name {
                ".." if behind.pop().is_none() => return false,
                "" | "." | ".." => continue,
                name => behind.push(name),
            }
            if let Some(target) = self.links.get(&behind.join("/")) {
                followed += 1;
                if followed > MAX_LINKS {
                    return false;
                }
                behind.pop();
                ahead.extend(target.rsplit('/'));
            }
        }
        true
    }

    /// Returns the path below the runtime's folder; none for that folder and its parent.
    fn place(&mut self, header: &EntryHeader<'_>) -> Result<Option<String>, Refusal> {
        let path = std::str::from_utf8(header.path).map_err(|_| Refusal::Path)?;
        let path = path.strip_prefix("./").unwrap_or(path);
        let path = if header.kind == EntryKind::Folder {
            path.strip_suffix('/').unwrap_or(path)
        } else {
            path
        };
        if !is_plain(path) {
            return Err(Refusal::Path);
        }
        let mut parts = path.splitn(3, '/');
        if parts.next() != Some(TOP) {
            return Err(Refusal::Place);
        }
        let version = parts.next();
        if let Some(version) = version {
            if !is_version(version)
                || self
                    .version
                    .as_deref()
                    .is_some_and(|known| known != version)
            {
                return Err(Refusal::Place);
            }
            self.version = Some(version.to_owned());
        }
        match (parts.next(), header.kind) {
            (Some(rest), _) => Ok(Some(rest.to_owned())),
            (None, EntryKind::Folder) => Ok(None),
            (None, _) => Err(Refusal::Place),
        }
    }

    /// Records `path` and returns which of its folders are new.
    fn enter(&mut self, path: &str, what: &ItemKind) -> Result<Vec<String>, Refusal> {
        let mut folders = Vec::new();
        for (end, _) in path.match_indices('/') {
            let folder = &path[..end];
            match self.known.get(folder) {
                Some(Known::Folder) => {}
                Some(Known::Leaf) => return Err(Refusal::Twice),
                None => folders.push(folder.to_owned()),
            }
        }
        let known = if *what == ItemKind::Folder {
            Known::Folder
        } else {
            Known::Leaf
        };
        match (self.known.get(path), known) {
            (None, _) | (Some(Known::Folder), Known::Folder) => {}
            _ => return Err(Refusal::Twice),
        }
        self.known
            .extend(folders.iter().map(|folder| (folder.clone(), Known::Folder)));
        self.known.insert(path.to_owned(), known);
        Ok(folders)
    }
}

/// Returns whether `path` is relative, without `..` and empty names.
pub(super) fn is_plain(path: &str) -> bool {
    path.len() <= MAX_PATH_LENGTH
        && !path.chars().any(char::is_control)
        && path.split('/').all(|name| !matches!(name, "" | "." | ".."))
}

/// Returns whether `text` is valid as the version in a folder's name.
fn is_version(text: &str) -> bool {
    text.len() <= MAX_VERSION_LENGTH
        && text.starts_with(|first: char| first.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".+-_".contains(&byte))
}

/// Returns the target of a link at `path`, unless it leads out of the runtime's folder by its
/// leading `..`. [`Tree::escaping_link`] checks the rest, which may lead through other links.
fn inner_target(path: &str, target: &[u8]) -> Result<String, Refusal> {
    let target = std::str::from_utf8(target).map_err(|_| Refusal::Link)?;
    if target.is_empty()
        || target.starts_with('/')
        || target.len() > MAX_PATH_LENGTH
        || target.chars().any(char::is_control)
    {
        return Err(Refusal::Link);
    }
    // The folders of the link are real folders.
    let climbed = target
        .split('/')
        .take_while(|name| matches!(*name, "" | "." | ".."))
        .filter(|name| *name == "..")
        .count();
    if climbed > path.matches('/').count() {
        return Err(Refusal::Link);
    }
    Ok(target.to_owned())
}
