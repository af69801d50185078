//! OCI image layouts as a folder or a tar archive: written, and read back with every digest
//! checked.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;

use super::descriptor::digest;
use super::{Blob, Descriptor, INDEX, MANIFEST, Packed};

/// Annotation with the name under which containerd imports an image: the full reference.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Annotation with the name of an image within its layout: the tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

impl Packed {
    /// Writes an OCI image layout into `folder`, which is created if it is missing. An existing
    /// layout is replaced: its index then names this image alone.
    ///
    /// # Errors
    /// Fails if `folder` has other content, or a file cannot be written.
    pub fn write_layout(&self, folder: &Path) -> Result<()> {
        if !folder.join("oci-layout").is_file()
            && fs::read_dir(folder).is_ok_and(|mut entries| {
                entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != ".gitignore"))
            })
        {
            bail!(
                "{} is neither empty nor an OCI layout: give another folder, or empty it",
                folder.display()
            );
        }
        for (path, bytes) in self.layout() {
            let file = folder.join(path);
            let parent = file.parent().unwrap_or(folder);
            fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
            fs::write(&file, bytes).with_context(|| format!("write {}", file.display()))?;
        }
        Ok(())
    }

    /// Writes the layout as one tar archive, which `ctr images import` reads.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn write_archive(&self, file: &Path) -> Result<()> {
        let out = fs::File::create(file).with_context(|| format!("make {}", file.display()))?;
        let mut archive = tar::Builder::new(out);
        for (path, bytes) in self.layout() {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_size(bytes.len() as u64);
            archive
                .append_data(&mut header, &path, bytes.as_slice())
                .with_context(|| format!("add {path} to {}", file.display()))?;
        }
        archive
            .finish()
            .with_context(|| format!("finish {}", file.display()))
    }

    /// Reads the one image of the archive `file`, to rename or push it. Image indexes are not
    /// supported.
    ///
    /// # Errors
    /// Fails as [`read_archive`] does.
    pub fn read_archive(file: &Path) -> Result<Self> {
        let mut files = files_of(file)?;
        let found = read(|path| {
            files
                .get(path)
                .cloned()
                .with_context(|| format!("it has no {path}"))
        })
        .with_context(|| format!("read the OCI archive {}", file.display()))?;
        let reference = found
            .reference
            .with_context(|| format!("{} has no image name", file.display()))?;
        let bytes = files
            .remove(&blob_path(&found.root.digest))
            .with_context(|| format!("{} has no manifest", file.display()))?;
        ensure!(
            found.root.media_type == MANIFEST,
            "{} holds an index, expected one image",
            file.display()
        );
        let blobs = std::iter::once(found.config).chain(found.layers).collect();
        Self::of(&reference, Blob::new(MANIFEST, bytes), blobs)
    }

    /// Returns paths and contents of the layout's files.
    fn layout(&self) -> BTreeMap<String, Vec<u8>> {
        let tag = self.reference.tag().unwrap_or("latest").to_owned();
        let annotations = BTreeMap::from([
            (CONTAINERD_NAME.to_owned(), self.reference()),
            (REF_NAME.to_owned(), tag),
        ]);
        let entry = Descriptor {
            annotations,
            ..self.root.descriptor()
        };
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
        let mut files: BTreeMap<_, _> = self
            .all()
            .map(|blob| (blob_path(blob.digest()), blob.bytes().to_vec()))
            .collect();
        files.insert("index.json".to_owned(), index.to_string().into_bytes());
        files.insert(
            "oci-layout".to_owned(),
            json!({ "imageLayoutVersion": "1.0.0" })
                .to_string()
                .into_bytes(),
        );
        files
    }
}

/// An image read from a layout or a registry, every digest and size checked.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its full reference, if the source has it.
    pub reference: Option<String>,
    /// The blob that the reference names: the manifest or the index.
    pub root: Descriptor,
    /// The configuration.
    pub config: Blob,
    /// The layers.
    pub layers: Vec<Blob>,
}

/// Reads the one image of the layout in `folder`.
///
/// # Errors
/// Fails if it is not a layout of one image, or a blob does not match its digest.
pub fn read_layout(folder: &Path) -> Result<Found> {
    read(|path| {
        let file = folder.join(path);
        fs::read(&file).with_context(|| format!("read {}", file.display()))
    })
    .with_context(|| format!("read the OCI layout {}", folder.display()))
}

/// Reads the one image of the archive `file`.
///
/// # Errors
/// Fails as [`read_layout`] does.
pub fn read_archive(file: &Path) -> Result<Found> {
    let mut files = files_of(file)?;
    read(|path| {
        files
            .remove(path)
            .with_context(|| format!("it has no {path}"))
    })
    .with_context(|| format!("read the OCI archive {}", file.display()))
}

/// Returns the files of a tar archive, by their paths.
fn files_of(file: &Path) -> Result<HashMap<String, Vec<u8>>> {
    let tar = fs::File::open(file).with_context(|| format!("open {}", file.display()))?;
    let mut files = HashMap::new();
    for entry in tar::Archive::new(tar)
        .entries()
        .with_context(|| format!("read {}", file.display()))?
    {
        let mut entry = entry.with_context(|| format!("read {}", file.display()))?;
        let path = entry
            .path()
            .context("read an entry's path")?
            .to_string_lossy()
            .into_owned();
        let mut bytes = Vec::new();
        entry
            .read_to_end(&mut bytes)
            .with_context(|| format!("read {path}"))?;
        files.insert(path, bytes);
    }
    Ok(files)
}

fn read(mut file: impl FnMut(&str) -> Result<Vec<u8>>) -> Result<Found> {
    let index: Index = serde_json::from_slice(&file("index.json")?).context("read index.json")?;
    let [root] = index.manifests.as_slice() else {
        bail!(
            "index.json names {} images, expected one",
            index.manifests.len()
        )
    };
    let reference = root.annotations.get(CONTAINERD_NAME).cloned();
    let found = resolve(root.clone(), |descriptor| {
        file(&blob_path(&descriptor.digest))
    })?;
    Ok(Found { reference, ..found })
}

/// Follows `root` to the configuration and the layers; `blob` loads each.
pub(super) fn resolve(
    root: Descriptor,
    mut blob: impl FnMut(&Descriptor) -> Result<Vec<u8>>,
) -> Result<Found> {
    let mut get = |descriptor: &Descriptor| {
        let bytes = blob(descriptor)?;
        let is = digest(&bytes);
        ensure!(
            is == descriptor.digest,
            "blob {} has the digest {is}",
            descriptor.digest
        );
        ensure!(
            bytes.len() as u64 == descriptor.size,
            "blob {is} has {} bytes, its descriptor has {}",
            bytes.len(),
            descriptor.size
        );
        Ok(Blob::new(&descriptor.media_type, bytes))
    };
    let mut manifest = get(&root)?;
    if manifest.media_type() == INDEX {
        let index: Index =
            serde_json::from_slice(manifest.bytes()).context("read the image index")?;
        let first = index
            .manifests
            .first()
            .context("the image index names no manifest")?;
        manifest = get(first)?;
    }
    ensure!(
        manifest.media_type() == MANIFEST,
        "{} is of type {}, expected {MANIFEST}",
        manifest.digest(),
        manifest.media_type()
    );
    let Manifest { config, layers } =
        serde_json::from_slice(manifest.bytes()).context("read the manifest")?;
    let config = get(&config)?;
    let layers = layers.iter().map(get).collect::<Result<_>>()?;
    Ok(Found {
        reference: None,
        root,
        config,
        layers,
    })
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}
