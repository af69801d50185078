//! Ordinary Linux images `FROM scratch`: one layer with the files, and a configuration with the
//! entrypoint.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{Blob, CREATED, IMAGE_CONFIG, Packed, Platform, descriptor};

/// An image with its program in the root file system.
#[derive(Debug, Clone, Default)]
pub struct RootfsImage {
    /// `registry/repository:tag`.
    pub reference: String,
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Default arguments, which a container's own replace.
    pub cmd: Vec<String>,
    /// `NAME=value` each.
    pub env: Vec<String>,
    /// The working directory; `/` if empty.
    pub working_dir: String,
    /// The root's entries. Missing parent folders are added.
    pub files: Vec<Entry>,
    /// Compression of the layer.
    pub compression: Compression,
}

/// Compression of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// None: plain tar.
    #[default]
    None,
    /// gzip, the usual form in registries.
    Gzip,
}

/// One entry of a layer.
#[derive(Debug, Clone)]
pub struct Entry {
    path: String,
    mode: u32,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    File(Vec<u8>),
    Folder,
    Link(String),
}

impl Entry {
    /// Creates a file with permission bits `mode`.
    pub fn file(path: &str, bytes: impl Into<Vec<u8>>, mode: u32) -> Self {
        Self {
            path: path.to_owned(),
            mode,
            content: Content::File(bytes.into()),
        }
    }

    /// Creates an empty folder with permission bits `mode`.
    pub fn folder(path: &str, mode: u32) -> Self {
        Self {
            path: path.to_owned(),
            mode,
            content: Content::Folder,
        }
    }

    /// Creates a symbolic link to `target`.
    pub fn link(path: &str, target: &str) -> Self {
        Self {
            path: path.to_owned(),
            mode: 0o777,
            content: Content::Link(target.to_owned()),
        }
    }
}

impl RootfsImage {
    /// Creates the simplest image of a guest: `/app.wasm`, which is also the entrypoint.
    pub fn of_guest(reference: &str, wasm: impl Into<Vec<u8>>) -> Self {
        Self {
            reference: reference.to_owned(),
            entrypoint: vec!["/app.wasm".to_owned()],
            files: vec![Entry::file("/app.wasm", wasm, 0o644)],
            ..Self::default()
        }
    }

    /// Creates the simplest image of a Linux program: `/native`, which is also the entrypoint.
    pub fn of_native(reference: &str, program: impl Into<Vec<u8>>) -> Self {
        Self {
            reference: reference.to_owned(),
            entrypoint: vec!["/native".to_owned()],
            files: vec![Entry::file("/native", program, 0o755)],
            ..Self::default()
        }
    }

    /// Packs it.
    ///
    /// # Errors
    /// Fails if the reference or a path is invalid.
    pub fn pack(&self) -> Result<Packed> {
        let layer = Layer::of(&self.files, self.compression)
            .with_context(|| format!("pack {}", self.reference))?;
        let config = config(
            &[&layer],
            &self.entrypoint,
            &self.cmd,
            &self.env,
            &self.working_dir,
        );
        Packed::manifest(
            &self.reference,
            Blob::json(IMAGE_CONFIG, &config),
            vec![layer.blob],
        )
    }
}

/// A file system layer: its blob as stored, and the digest of its plain tar, by which runtimes
/// identify it.
pub(super) struct Layer {
    pub(super) blob: Blob,
    diff_id: String,
}

impl Layer {
    pub(super) fn of(entries: &[Entry], compression: Compression) -> Result<Self> {
        let tar = tar_of(entries)?;
        let diff_id = descriptor::digest(&tar);
        let blob = match compression {
            Compression::None => Blob::new("application/vnd.oci.image.layer.v1.tar", tar),
            Compression::Gzip => {
                Blob::new("application/vnd.oci.image.layer.v1.tar+gzip", gzip(&tar)?)
            }
        };
        Ok(Self { blob, diff_id })
    }
}

/// Creates an image configuration over `layers`.
pub(super) fn config(
    layers: &[&Layer],
    entrypoint: &[String],
    cmd: &[String],
    env: &[String],
    working_dir: &str,
) -> Value {
    let Platform { architecture, os } = Platform::host();
    let mut process = json!({});
    for (key, value) in [("Entrypoint", entrypoint), ("Cmd", cmd), ("Env", env)] {
        if !value.is_empty() {
            process[key] = json!(value);
        }
    }
    if !working_dir.is_empty() {
        process["WorkingDir"] = json!(working_dir);
    }
    json!({
        "created": CREATED,
        "architecture": architecture,
        "os": os,
        "config": process,
        "rootfs": { "type": "layers",
        "diff_ids": layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>() },
    })
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    // The encoder's default header has no time.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).context("compress the layer")?;
    encoder.finish().context("compress the layer")
}

fn tar_of(entries: &[Entry]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut folders = BTreeSet::new();
    for entry in entries {
        let path = inside_root(&entry.path)?;
        for folder in parents(&path) {
            if folders.insert(folder.clone()) {
                append(&mut archive, &folder, 0o755, &Content::Folder)?;
            }
        }
        let is_new = !matches!(entry.content, Content::Folder) || folders.insert(path.clone());
        if is_new {
            append(&mut archive, &path, entry.mode, &entry.content)?;
        }
    }
    archive.into_inner().context("finish the layer")
}

fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    path: &Path,
    mode: u32,
    content: &Content,
) -> Result<()> {
    // A new header has zero times and owners.
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    let added = match content {
        Content::File(bytes) => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, path, bytes.as_slice())
        }
        Content::Folder => {
            header.set_entry_type(tar::EntryType::Directory);
            archive.append_data(&mut header, path, std::io::empty())
        }
        Content::Link(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            archive.append_link(&mut header, path, target)
        }
    };
    added.with_context(|| format!("add {} to the layer", path.display()))
}

/// Returns `path` without its leading slash; refuses one that leads out of the root.
fn inside_root(path: &str) -> Result<PathBuf> {
    let mut inside = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => inside.push(name),
            Component::ParentDir | Component::Prefix(_) => {
                bail!("{path:?} does not stay inside the image's root")
            }
        }
    }
    if inside.as_os_str().is_empty() {
        bail!("{path:?} is not a path of an image entry");
    }
    Ok(inside)
}

/// Returns the folders above `path`, outermost first.
fn parents(path: &Path) -> Vec<PathBuf> {
    let mut parents: Vec<_> = path
        .ancestors()
        .skip(1)
        .filter(|folder| !folder.as_os_str().is_empty())
        .map(Path::to_path_buf)
        .collect();
    parents.reverse();
    parents
}
