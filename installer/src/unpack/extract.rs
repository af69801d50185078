//! Reading an archive: once for its manifest, once for its files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use tar::EntryType;

use super::manifest::{LIMIT, MANIFEST, Manifest};
use super::tree::{Claim, Item, Kind, Tree, What};
use super::{Refusal, TOTAL_LIMIT, UnpackError, sync};

/// Bytes of the headers and paddings of an archive, beside its files.
const OVERHEAD: u64 = 64 << 20;

/// The manifest of `archive`, read and as it stands there.
pub(super) fn manifest_of(archive: &Path) -> Result<(Manifest, Vec<u8>), UnpackError> {
    let mut found = None;
    let tree = walk(archive, |item, content| {
        if item.path != MANIFEST {
            return Ok(Next::Entry);
        }
        if !matches!(item.what, What::File(_)) {
            return Err(UnpackError::Entry {
                entry: item.path,
                why: Refusal::Kind,
            });
        }
        let mut text = Vec::new();
        content
            .take(LIMIT)
            .read_to_end(&mut text)
            .map_err(unreadable(archive))?;
        found = Some(text);
        Ok(Next::Enough)
    })?;
    let (Some(text), Some(version)) = (found, tree.version()) else {
        return Err(UnpackError::NoManifest);
    };
    Ok((Manifest::read(&text, version)?, text))
}

/// Writes what `archive` holds below `folder`, to the disk. Only what `manifest` names: anything
/// else is refused.
pub(super) fn extract(
    archive: &Path,
    manifest: &Manifest,
    folder: &Path,
) -> Result<(), UnpackError> {
    let mut folders = vec![folder.to_owned()];
    let tree = walk(archive, |item, content| {
        for path in item
            .folders
            .iter()
            .chain((item.what == What::Folder).then_some(&item.path))
        {
            let path = folder.join(path);
            match fs::create_dir(&path) {
                // An entry of its own after the files that lie in it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                result => result.map_err(UnpackError::host("make", &path))?,
            }
            set_mode(&path, 0o755)?;
            folders.push(path);
        }
        let named = item.path == MANIFEST || manifest.files.contains_key(&item.path);
        let place = folder.join(&item.path);
        match item.what {
            What::Folder => {}
            _ if !named => {
                return Err(UnpackError::Contradiction {
                    what: format!("does not name {}, which the archive holds", item.path),
                });
            }
            What::File(mode) => write(archive, content, &place, mode)?,
            What::Link(target) => {
                symlink(target, &place).map_err(UnpackError::host("make the link", &place))?;
            }
        }
        Ok(Next::Entry)
    })?;
    // Until here no link was followed: each file is new, in folders that were made above.
    if let Some(link) = tree.escaping_link() {
        return Err(UnpackError::Entry {
            entry: link.to_owned(),
            why: Refusal::Link,
        });
    }
    // Innermost first: a name is worth nothing before what it names is safe.
    folders.iter().rev().try_for_each(|folder| sync(folder))
}

/// Whether a walk goes on.
enum Next {
    Entry,
    Enough,
}

/// Shows `visit` every entry that an archive may have, in order.
fn walk(
    archive: &Path,
    mut visit: impl FnMut(Item, &mut dyn Read) -> Result<Next, UnpackError>,
) -> Result<Tree, UnpackError> {
    let file = File::open(archive).map_err(UnpackError::host("open", archive))?;
    // Whatever the headers claim, no more than this is ever decompressed.
    let plain = GzDecoder::new(io::BufReader::new(file)).take(TOTAL_LIMIT + OVERHEAD);
    let mut tar = tar::Archive::new(plain);
    let mut tree = Tree::default();
    // Raw: an extension header (long names, pax) would be read into memory at the size that it
    // claims. Ours need none.
    for entry in tar.entries().map_err(unreadable(archive))?.raw(true) {
        let mut entry = entry.map_err(unreadable(archive))?;
        let item = {
            let header = entry.header();
            let path = entry.path_bytes();
            let target = entry.link_name_bytes().unwrap_or_default();
            let kind = match header.entry_type() {
                EntryType::Regular | EntryType::Continuous => Kind::File,
                EntryType::Directory => Kind::Folder,
                EntryType::Symlink => Kind::Link(&target),
                _ => Kind::Other,
            };
            let mode = header.mode().map_err(unreadable(archive))?;
            let claim = Claim {
                path: &path,
                kind,
                mode,
                size: entry.size(),
            };
            tree.admit(&claim).map_err(|why| UnpackError::Entry {
                entry: String::from_utf8_lossy(&path).into_owned(),
                why,
            })?
        };
        let Some(item) = item else { continue };
        if let Next::Enough = visit(item, &mut entry)? {
            break;
        }
    }
    Ok(tree)
}

/// Writes `content` to the new file `place`, to the disk.
fn write(
    archive: &Path,
    content: &mut dyn Read,
    place: &Path,
    mode: u32,
) -> Result<(), UnpackError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(place)
        .map_err(UnpackError::host("make", place))?;
    let mut buffer = vec![0; 128 << 10];
    loop {
        // Reading and writing apart: the one is the archive's fault, the other the disk's.
        let count = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(archive)(error)),
        };
        io::Write::write_all(&mut file, &buffer[..count])
            .map_err(UnpackError::host("write", place))?;
    }
    set_mode(place, mode)?;
    file.sync_all()
        .map_err(UnpackError::host("write to the disk", place))
}

/// Sets a mode whatever the umask is.
pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), UnpackError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(UnpackError::host("set the mode of", path))
}

fn unreadable(archive: &Path) -> impl FnOnce(io::Error) -> UnpackError {
    let archive: PathBuf = archive.to_owned();
    move |source| UnpackError::Archive { archive, source }
}
