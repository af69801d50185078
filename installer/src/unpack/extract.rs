//! Reads an archive twice: for its manifest, then for its files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use tar::EntryType;

use super::manifest::{MANIFEST, MAX_SIZE, Manifest};
use super::tree::{EntryHeader, EntryKind, Item, ItemKind, Tree};
use super::{MAX_TOTAL_SIZE, Refusal, UnpackError, sync};

/// Maximum bytes of an archive's headers and paddings.
const MAX_OVERHEAD: u64 = 64 << 20;

/// Returns the manifest of `archive`, parsed and as text.
pub(super) fn manifest_of(archive: &Path) -> Result<(Manifest, Vec<u8>), UnpackError> {
    let mut found = None;
    let tree = walk(archive, |item, content| {
        if item.path != MANIFEST {
            return Ok(Next::Entry);
        }
        if !matches!(item.what, ItemKind::File(_)) {
            return Err(UnpackError::Entry {
                entry: item.path,
                why: Refusal::Kind,
            });
        }
        let mut text = Vec::new();
        content
            .take(MAX_SIZE)
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

/// Writes the files of `archive` below `folder`, to the disk. Refuses files that `manifest` does
/// not list.
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
            .chain((item.what == ItemKind::Folder).then_some(&item.path))
        {
            let path = folder.join(path);
            match fs::create_dir(&path) {
                // A folder's own entry may come after its files.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                result => result.map_err(UnpackError::host("make", &path))?,
            }
            set_mode(&path, 0o755)?;
            folders.push(path);
        }
        let named = item.path == MANIFEST || manifest.files.contains_key(&item.path);
        let place = folder.join(&item.path);
        match item.what {
            ItemKind::Folder => {}
            _ if !named => {
                return Err(UnpackError::Contradiction {
                    what: format!("does not name {}, which the archive holds", item.path),
                });
            }
            ItemKind::File(mode) => write(archive, content, &place, mode)?,
            ItemKind::Link(target) => {
                symlink(target, &place).map_err(UnpackError::host("make the link", &place))?;
            }
        }
        Ok(Next::Entry)
    })?;
    // So far no link was followed: each file is new, in folders that were created above.
    if let Some(link) = tree.escaping_link() {
        return Err(UnpackError::Entry {
            entry: link.to_owned(),
            why: Refusal::Link,
        });
    }
    // Innermost first: a folder's entry must not be on the disk before its content.
    folders.iter().rev().try_for_each(|folder| sync(folder))
}

/// Whether a walk continues.
enum Next {
    Entry,
    Enough,
}

/// Passes every admitted entry of an archive to `visit`, in order.
fn walk(
    archive: &Path,
    mut visit: impl FnMut(Item, &mut dyn Read) -> Result<Next, UnpackError>,
) -> Result<Tree, UnpackError> {
    let file = File::open(archive).map_err(UnpackError::host("open", archive))?;
    // Limits the decompressed bytes, whatever the headers state.
    let plain = GzDecoder::new(io::BufReader::new(file)).take(MAX_TOTAL_SIZE + MAX_OVERHEAD);
    let mut tar = tar::Archive::new(plain);
    let mut tree = Tree::default();
    // Raw: an extension header (long names, pax) would be read into memory at its stated size. Our
    // archives have none.
    for entry in tar.entries().map_err(unreadable(archive))?.raw(true) {
        let mut entry = entry.map_err(unreadable(archive))?;
        let item = {
            let header = entry.header();
            let path = entry.path_bytes();
            let target = entry.link_name_bytes().unwrap_or_default();
            let kind = match header.entry_type() {
                EntryType::Regular | EntryType::Continuous => EntryKind::File,
                EntryType::Directory => EntryKind::Folder,
                EntryType::Symlink => EntryKind::Link(&target),
                _ => EntryKind::Other,
            };
            let mode = header.mode().map_err(unreadable(archive))?;
            let header = EntryHeader {
                path: &path,
                kind,
                mode,
                size: entry.size(),
            };
            tree.admit(&header).map_err(|why| UnpackError::Entry {
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
        // A read error is the archive's fault, a write error the disk's.
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
    file.sync_all().map_err(UnpackError::host("flush", place))
}

/// Sets a mode, whatever the umask.
pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), UnpackError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(UnpackError::host("set the mode of", path))
}

fn unreadable(archive: &Path) -> impl FnOnce(io::Error) -> UnpackError {
    let archive: PathBuf = archive.to_owned();
    move |source| UnpackError::Archive { archive, source }
}
