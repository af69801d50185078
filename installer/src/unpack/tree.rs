//! Which entries an archive may have, decided before anything of them is written.

use std::collections::BTreeMap;
use std::fmt;

use super::{ENTRY_LIMIT, TOTAL_LIMIT};

/// The one folder at the top of an archive.
const TOP: &str = "wasmedge-runtime";
/// Bytes of a path: more than any of ours has, and little enough for every file system.
const PATH_LIMIT: usize = 512;
/// Letters of a version: it becomes part of a folder's name.
const VERSION_LIMIT: usize = 64;
/// Maximum number of links on one path, as in the kernel (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Why an entry is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its path is absolute, climbs, or is no plain text.
    Path,
    /// It lies outside of `wasmedge-runtime/<version>`, or in a second version.
    Place,
    /// It is neither a file nor a folder nor a symbolic link.
    Kind,
    /// It has a setuid, setgid or sticky bit.
    Mode,
    /// It is a link that leads out of the folder, itself or through other links of the archive, or
    /// in a ring.
    Link,
    /// Something of its name, or a file or link in the place of its folder, was there before.
    Twice,
    /// It is too large, or there are too many before it.
    Size,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Path => "its path is absolute, has a \"..\", is too long, or is no plain text",
            Self::Place => "it does not lie in the one folder wasmedge-runtime/<version>",
            Self::Kind => "it is neither a file nor a folder nor a symbolic link",
            Self::Mode => "it has a setuid, setgid or sticky bit",
            Self::Link => "it is a link that leads out of the runtime's folder, or in a ring",
            Self::Twice => "another entry is in its place",
            Self::Size => "the archive holds more than a runtime does",
        })
    }
}

/// What an entry's header says.
#[derive(Debug, Clone)]
pub(super) struct Claim<'a> {
    /// Its path, as it stands in the archive.
    pub(super) path: &'a [u8],
    /// What it is.
    pub(super) kind: Kind<'a>,
    /// Its mode.
    pub(super) mode: u32,
    /// Its size in bytes.
    pub(super) size: u64,
}

/// What an entry says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    Folder,
    File,
    /// A symbolic link, and where it leads.
    Link(&'a [u8]),
    /// Anything else: devices, pipes, hard links, extensions of the format.
    Other,
}

/// What to make, at a path below the runtime's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Where. Not empty.
    pub(super) path: String,
    /// What.
    pub(super) what: What,
    /// Folders that have to be made before it, outermost first.
    pub(super) folders: Vec<String>,
}

/// What to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Folder,
    /// A file with this mode.
    File(u32),
    /// A link with this target.
    Link(String),
}

/// What was admitted so far.
#[derive(Debug, Default)]
pub(super) struct Tree {
    version: Option<String>,
    /// Whether a path is a folder.
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
    /// The version that the top folder's folder is named by, once an entry said so.
    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// What to make of an entry; none for the two outermost folders themselves.
    pub(super) fn admit(&mut self, claim: &Claim<'_>) -> Result<Option<Item>, Refusal> {
        self.entries += 1;
        self.total = self.total.saturating_add(claim.size);
        if self.entries > ENTRY_LIMIT || self.total > TOTAL_LIMIT {
            return Err(Refusal::Size);
        }
        if claim.mode & 0o7000 != 0 {
            return Err(Refusal::Mode);
        }
        let Some(path) = self.place(claim)? else {
            return Ok(None);
        };
        let what = match claim.kind {
            Kind::Folder => What::Folder,
            // Who may execute is all that is taken over of a mode: nobody but root shall write.
            Kind::File => What::File(if claim.mode & 0o111 == 0 {
                0o644
            } else {
                0o755
            }),
            Kind::Link(target) => What::Link(inner_target(&path, target)?),
            Kind::Other => return Err(Refusal::Kind),
        };
        let folders = self.enter(&path, &what)?;
        if let What::Link(target) = &what {
            self.links.insert(path.clone(), target.clone());
        }
        Ok(Some(Item {
            path,
            what,
            folders,
        }))
    }

    /// Returns the first link that leads out of the runtime's folder, or in a ring, when the kernel
    /// follows it. Decided when all entries are known: where a link leads depends on links that may
    /// come after it.
    pub(super) fn escaping_link(&self) -> Option<&str> {
        self.links
            .keys()
            .map(String::as_str)
            .find(|link| !self.stays_inside(link))
    }

    /// Follows the link at `link` and all links on its way. What is absent, or a file, counts as a
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

    /// The path below the runtime's folder; none for what that folder lies in, and for itself.
    fn place(&mut self, claim: &Claim<'_>) -> Result<Option<String>, Refusal> {
        let path = std::str::from_utf8(claim.path).map_err(|_| Refusal::Path)?;
        let path = path.strip_prefix("./").unwrap_or(path);
        let path = if claim.kind == Kind::Folder {
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
        match (parts.next(), claim.kind) {
            (Some(rest), _) => Ok(Some(rest.to_owned())),
            (None, Kind::Folder) => Ok(None),
            (None, _) => Err(Refusal::Place),
        }
    }

    /// Notes `path`, and which of its folders are new.
    fn enter(&mut self, path: &str, what: &What) -> Result<Vec<String>, Refusal> {
        let mut folders = Vec::new();
        for (end, _) in path.match_indices('/') {
            let folder = &path[..end];
            match self.known.get(folder) {
                Some(Known::Folder) => {}
                Some(Known::Leaf) => return Err(Refusal::Twice),
                None => folders.push(folder.to_owned()),
            }
        }
        let known = if *what == What::Folder {
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

/// Whether `path` is relative and climbs nowhere: names with one slash between them.
pub(super) fn is_plain(path: &str) -> bool {
    path.len() <= PATH_LIMIT
        && !path.chars().any(char::is_control)
        && path.split('/').all(|name| !matches!(name, "" | "." | ".."))
}

/// Whether `text` can be part of a folder's name without looking like something else there.
fn is_version(text: &str) -> bool {
    text.len() <= VERSION_LIMIT
        && text.starts_with(|first: char| first.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".+-_".contains(&byte))
}

/// The target of a link at `path`, unless it climbs out of the runtime's folder before it names
/// anything. The rest of the way, which may lead through other links, is for
/// [`Tree::escaping_link`].
fn inner_target(path: &str, target: &[u8]) -> Result<String, Refusal> {
    let target = std::str::from_utf8(target).map_err(|_| Refusal::Link)?;
    if target.is_empty()
        || target.starts_with('/')
        || target.len() > PATH_LIMIT
        || target.chars().any(char::is_control)
    {
        return Err(Refusal::Link);
    }
    // No link is on the way to the link itself: its folders are folders.
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
