//! Image packing: rootfs images, images with a Wasm layer, CNCF Wasm artifacts; output to OCI
//! layouts, archives and registries.
//!
//! [`RootfsImage`], [`LayeredImage`], [`WasmImage`], [`Artifact`] and [`FileArtifact`] describe the
//! content; each packs to one [`Packed`], which holds all blobs with their digests in memory. A
//! `Packed` is then written or pushed. The same input gives the same bytes: times are zero, entries
//! keep their given order, keys of JSON objects have a fixed order.

mod binary;
mod credentials;
mod descriptor;
mod http;
mod layout;
mod push;
mod layered;
mod reference;
mod rootfs;
mod wasm;

use anyhow::{Context as _, Result};
use serde_json::json;

pub use binary::{Binary, World, classify, compile_if_text, world};
pub use credentials::Credentials;
pub use descriptor::{Blob, Descriptor, Platform};
pub use layered::{FileArtifact, FileLayer, LayeredImage};
pub use layout::{Found, read_archive, read_layout};
pub use push::{Registry, Transport, pull};
pub use rootfs::{Compression, Entry, RootfsImage};
pub use wasm::{Artifact, WasmImage, WasmLayer};

use reference::Reference;

/// Media type of an image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of an image's configuration.
pub const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of a CNCF Wasm artifact's configuration.
pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// The creation time in every image: the same input must give the same digest.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// A packed image or artifact: all its blobs, and the blob that its reference names.
#[derive(Debug, Clone)]
pub struct Packed {
    reference: Reference,
    /// The manifest, or the index in front of it.
    root: Blob,
    /// The manifest behind an index.
    manifests: Vec<Blob>,
    /// Configuration and layers, in the manifest's order.
    blobs: Vec<Blob>,
}

impl Packed {
    /// Makes a manifest over `config` and `layers`, named `reference`.
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

    /// Takes an existing manifest over `blobs`: configuration and layers, in its order.
    fn of(reference: &str, root: Blob, blobs: Vec<Blob>) -> Result<Self> {
        Ok(Self {
            reference: parse_reference(reference)?,
            root,
            manifests: Vec::new(),
            blobs,
        })
    }

    /// Renames the image; its bytes stay the same.
    ///
    /// # Errors
    /// Fails if `reference` is not a valid reference.
    pub fn named(self, reference: &str) -> Result<Self> {
        Ok(Self {
            reference: parse_reference(reference)?,
            ..self
        })
    }

    /// Puts the image behind an image index, as multi-platform builds do.
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

    /// Returns the full reference, as containerd stores it.
    pub fn reference(&self) -> String {
        self.reference.to_string()
    }

    /// Returns the blob that the reference names: the manifest or the index.
    pub fn root(&self) -> &Blob {
        &self.root
    }

    /// Returns configuration and layers, in the manifest's order.
    pub fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// Returns the size of all blobs.
    pub fn size(&self) -> usize {
        self.all().map(|blob| blob.bytes().len()).sum()
    }

    /// Iterates over all blobs, each before the blobs that refer to it: the order in which a
    /// registry accepts them.
    fn all(&self) -> impl Iterator<Item = &Blob> {
        self.blobs
            .iter()
            .chain(&self.manifests)
            .chain(std::iter::once(&self.root))
    }
}

/// Parses an image reference with its registry, repository and tag.
fn parse_reference(text: &str) -> Result<Reference> {
    text.parse()
        .with_context(|| format!("{text:?} is not an image reference (registry/repository:tag)"))
}

/// Returns the registry in an image reference, if it begins with one: the part before the first
/// slash then has a dot or a port, or is `localhost`.
pub fn registry_in(text: &str) -> Option<String> {
    let (first, _) = text.split_once('/')?;
    let is_registry = first == "localhost" || first.contains(['.', ':']);
    let reference = parse_reference(text).ok()?;
    is_registry.then(|| reference.registry().to_owned())
}

#[cfg(test)]
mod tests;
