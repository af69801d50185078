//! Packing images: rootfs images, images with a Wasm layer, CNCF Wasm artifacts; to OCI layouts,
//! archives and registries.
//!
//! [`RootfsImage`], [`LayeredImage`], [`WasmImage`], [`Artifact`] and [`FileArtifact`] describe
//! what to pack; each packs to one [`Packed`], which is all blobs in memory with their digests. A
//! `Packed` is then written or pushed. The same input gives the same bytes: times are zero, entries
//! sorted as given, keys of JSON objects in a fixed order.

mod binary;
mod credentials;
mod descriptor;
mod layout;
mod push;
mod layered;
mod rootfs;
mod wasm;

use anyhow::{Context as _, Result};
use oci_client::Reference;
use serde_json::json;

pub use binary::{Binary, World, classify, compile_if_text, world};
pub use credentials::Credentials;
pub use descriptor::{Blob, Descriptor, Platform};
pub use layered::{FileArtifact, FileLayer, LayeredImage};
pub use layout::{Found, read_archive, read_layout};
pub use push::{Registry, Transport, pull};
pub use rootfs::{Compression, Entry, RootfsImage};
pub use wasm::{Artifact, WasmImage, WasmLayer};

/// Media type of an image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of an image's configuration.
pub const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of a CNCF Wasm artifact's configuration.
pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// When everything was created: packing the same thing twice must give the same digest.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// An image or artifact, packed: every blob of it, and what its reference names.
#[derive(Debug, Clone)]
pub struct Packed {
    reference: Reference,
    /// The manifest, or the index before it.
    root: Blob,
    /// The manifest behind an index.
    manifests: Vec<Blob>,
    /// Configuration and layers, in the manifest's order.
    blobs: Vec<Blob>,
}

impl Packed {
    /// A manifest over `config` and `layers`, named `reference`.
    fn manifest(reference: &str, config: Blob, layers: Vec<Blob>) -> Result<Self> {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        Self::of(
            reference,
            Blob::json(MANIFEST, &manifest),
            std::iter::once(config).chain(layers).collect(),
        )
    }

    /// A manifest that is there already, over `blobs`: configuration and layers, in its order.
    fn of(reference: &str, root: Blob, blobs: Vec<Blob>) -> Result<Self> {
        Ok(Self {
            reference: parse_reference(reference)?,
            root,
            manifests: Vec::new(),
            blobs,
        })
    }

    /// The same bytes under another name.
    ///
    /// # Errors
    /// When `reference` is none.
    pub fn named(self, reference: &str) -> Result<Self> {
        Ok(Self {
            reference: parse_reference(reference)?,
            ..self
        })
    }

    /// The same image behind an image index, as multi-platform builds make it.
    #[must_use]
    pub fn behind_index(self) -> Self {
        let entry = Descriptor {
            platform: Some(Platform::host()),
            ..self.root.descriptor()
        };
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
        let manifests = std::iter::once(self.root).chain(self.manifests).collect();
        Self {
            root: Blob::json(INDEX, &index),
            manifests,
            ..self
        }
    }

    /// The full reference, as containerd stores it.
    pub fn reference(&self) -> String {
        self.reference.whole()
    }

    /// What the reference names: the manifest or the index.
    pub fn root(&self) -> &Blob {
        &self.root
    }

    /// Configuration and layers, in the manifest's order.
    pub fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// Bytes of all blobs together.
    pub fn size(&self) -> usize {
        self.all().map(|blob| blob.bytes().len()).sum()
    }

    /// Every blob, what is referred to before what refers to it: the order in which a registry
    /// takes them.
    fn all(&self) -> impl Iterator<Item = &Blob> {
        self.blobs
            .iter()
            .chain(&self.manifests)
            .chain(std::iter::once(&self.root))
    }
}

/// `text` as an image reference with its registry, repository and tag.
fn parse_reference(text: &str) -> Result<Reference> {
    text.parse()
        .with_context(|| format!("{text:?} is no image reference (registry/repository:tag)"))
}

/// The registry that `text` names, if it is an image reference that begins with one: what stands
/// before its first slash has a dot or a port, or is `localhost`.
pub fn registry_in(text: &str) -> Option<String> {
    let (first, _) = text.split_once('/')?;
    let is_registry = first == "localhost" || first.contains(['.', ':']);
    let reference = parse_reference(text).ok()?;
    is_registry.then(|| reference.registry().to_owned())
}

#[cfg(test)]
mod tests;
