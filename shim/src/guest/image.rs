//! The Wasm layer of a container's image, read from containerd's content store.
//!
//! Understood are: an OCI image or CNCF Wasm artifact that has one layer of a Wasm media type, and an index whose
//! entries are such; everything else is left to the root file system, which containerd unpacked.

use std::sync::Arc;

use oci_spec::image::{Arch, Descriptor, ImageIndex, ImageManifest, MediaType, Platform};
use thiserror::Error;

mod kept;
mod store;

pub use kept::{Kept, Layer};
pub use store::{Containerd, StoreError};

/// Media types of a layer that is a guest: CNCF's, the component layer type of the Bytecode Alliance, and the one
/// that `wasm-to-oci` and early registries used.
pub const WASM_LAYERS: &[&str] =
    &["application/wasm", "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm", "application/vnd.wasm.content.layer.v1+wasm"];

/// Manifests and indexes are small; containerd itself refuses larger ones.
const MAX_MANIFEST: u64 = 4 << 20;

/// Why an image's layers could not be told.
#[derive(Debug, Error)]
pub enum ImageError {
    /// containerd did not answer, or not with what was asked for.
    #[error("cannot ask containerd for {what}")]
    Store {
        /// What was asked for.
        what: String,
        /// Why it failed.
        #[source]
        source: StoreError,
    },
    /// The image was removed from containerd while its container exists.
    #[error("image {image} is not in containerd's store any more: pull it again")]
    ImageGone {
        /// The image's name.
        image: String,
    },
    /// A manifest or index that cannot be read.
    #[error("{digest} of image {image} is no OCI manifest: pull the image again, or push it again if that does not help")]
    Manifest {
        /// The image's name.
        image: String,
        /// The manifest's digest.
        digest: String,
        /// Why.
        source: serde_json::Error,
    },
    /// An index none of whose manifests was pulled.
    #[error(
        "image {image} is an index, and containerd holds none of its {entries} manifests: pull it for this node's platform or for wasm"
    )]
    NoManifest {
        /// The image's name.
        image: String,
        /// How many manifests the index names.
        entries: usize,
    },
    /// An index within an index.
    #[error("image {image}: manifest {digest} is an index within an index: push the image with one index")]
    NestedIndex {
        /// The image's name.
        image: String,
        /// The inner index.
        digest: String,
    },
    /// More than one Wasm layer.
    #[error("image {image} has {count} Wasm layers; one is run: push each guest as an image of its own")]
    SeveralLayers {
        /// The image's name.
        image: String,
        /// How many.
        count: usize,
    },
    /// A layer too large to be a guest.
    #[error("layer {digest} of image {image} has {size} bytes; at most {limit} are read: shrink the guest (`wasm-opt -Oz`, `strip`)")]
    LayerTooLarge {
        /// The image's name.
        image: String,
        /// The layer.
        digest: String,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// No memory for a layer.
    #[error("cannot keep layer {digest} of image {image} in memory")]
    Memory {
        /// The image's name.
        image: String,
        /// The layer.
        digest: String,
        /// Why.
        source: std::io::Error,
    },
    /// A layer whose bytes are not those that its digest names.
    #[error("layer {digest} of image {image} is damaged on this node (its bytes have digest {found}): remove the image and pull it again")]
    Damaged {
        /// The image's name.
        image: String,
        /// The digest that the manifest names.
        digest: String,
        /// The digest of the bytes.
        found: String,
    },
}

/// The part of containerd that this module asks.
pub trait ContentStore: Sync {
    /// The name of the image that container `id` was made from; `None` if it was made from none.
    fn image_of(&self, id: &str) -> impl Future<Output = Result<Option<String>, StoreError>> + Send;
    /// What the image's name stands for; `None` if there is no such image.
    fn target(&self, image: &str) -> impl Future<Output = Result<Option<Descriptor>, StoreError>> + Send;
    /// Whether the content is present on this node.
    fn has(&self, digest: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// The content, at most `limit` bytes of it.
    fn read(&self, digest: &str, limit: u64) -> impl Future<Output = Result<Vec<u8>, StoreError>> + Send;
}

/// The Wasm layer of the image that container `id` was made from; `None` when the guest, if there is one, is in the root
/// file system: the image has no Wasm layer, or the container has no image.
///
/// # Errors
/// When containerd does not answer, the image is damaged, or it is ambiguous.
pub async fn wasm_layer(id: &str, store: &impl ContentStore, kept: &Kept) -> Result<Option<Arc<Layer>>, ImageError> {
    let asked = |what: String| move |source| ImageError::Store { what, source };
    let Some(image) = store.image_of(id).await.map_err(asked(format!("container {id}")))? else {
        return Ok(None);
    };
    let target = store.target(&image).await.map_err(asked(format!("image {image}")))?;
    let target = target.ok_or_else(|| ImageError::ImageGone { image: image.clone() })?;
    let manifest = manifest(&image, target, store, kept).await?;
    let Some(layer) = select_layer(&image, &manifest)? else {
        return Ok(None);
    };
    let (digest, size, limit) = (layer.digest().to_string(), layer.size(), super::kind::MAX_BINARY);
    if let Some(layer) = kept.layer(&digest) {
        return Ok(Some(layer));
    }
    if size > limit {
        return Err(ImageError::LayerTooLarge { image, digest, size, limit });
    }
    let bytes = store.read(&digest, limit).await.map_err(asked(format!("layer {digest} of image {image}")))?;
    Ok(Some(kept.keep_layer(image, digest, &bytes)?))
}

/// The manifest that `target` is or, if it is an index, leads to.
async fn manifest(image: &str, target: Descriptor, store: &impl ContentStore, kept: &Kept) -> Result<ImageManifest, ImageError> {
    let mut target = target;
    if is_index(&target) {
        let index: ImageIndex = read_json(image, &target, store, kept).await?;
        let mut present = Vec::new();
        for entry in index.manifests() {
            let digest = entry.digest().to_string();
            if store.has(&digest).await.map_err(|source| ImageError::Store { what: format!("manifest {digest}"), source })? {
                present.push(entry);
            }
        }
        let entries = index.manifests().len();
        let chosen = select_manifest(&present).ok_or_else(|| ImageError::NoManifest { image: image.to_owned(), entries })?;
        if is_index(chosen) {
            return Err(ImageError::NestedIndex { image: image.to_owned(), digest: chosen.digest().to_string() });
        }
        target = chosen.clone();
    }
    read_json(image, &target, store, kept).await
}

async fn read_json<T: serde::de::DeserializeOwned>(
    image: &str,
    what: &Descriptor,
    store: &impl ContentStore,
    kept: &Kept,
) -> Result<T, ImageError> {
    let digest = what.digest().to_string();
    let bytes = if let Some(bytes) = kept.manifest(&digest) {
        bytes
    } else {
        let bytes = store.read(&digest, MAX_MANIFEST).await;
        let bytes = bytes.map_err(|source| ImageError::Store { what: format!("manifest {digest} of image {image}"), source })?;
        kept.keep_manifest(digest.clone(), bytes)
    };
    serde_json::from_slice(&bytes).map_err(|source| ImageError::Manifest { image: image.to_owned(), digest, source })
}

fn is_index(descriptor: &Descriptor) -> bool {
    match descriptor.media_type() {
        MediaType::ImageIndex => true,
        MediaType::Other(name) => name == "application/vnd.docker.distribution.manifest.list.v2+json",
        _ => false,
    }
}

/// Of the manifests on this node: one for WebAssembly before one for this machine before any other that names a platform
/// a container can have (build attestations name the platform `unknown`).
fn select_manifest<'a>(present: &[&'a Descriptor]) -> Option<&'a Descriptor> {
    let rank = |descriptor: &Descriptor| match descriptor.platform().as_ref().map(Platform::architecture) {
        Some(Arch::Wasm) => Some(0),
        Some(Arch::Other(name)) if name == "unknown" => None,
        Some(Arch::Other(name)) if name.starts_with("wasm") => Some(0),
        Some(architecture) if *architecture == Arch::default() => Some(1),
        _ => Some(2),
    };
    present
        .iter()
        .filter_map(|descriptor| Some((rank(descriptor)?, *descriptor)))
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, descriptor)| descriptor)
}

/// The one Wasm layer of `manifest`, if it has any.
fn select_layer<'a>(image: &str, manifest: &'a ImageManifest) -> Result<Option<&'a Descriptor>, ImageError> {
    let mut layers = manifest.layers().iter().filter(|layer| WASM_LAYERS.contains(&layer.media_type().to_string().as_str()));
    let first = layers.next();
    match layers.count() {
        0 => Ok(first),
        more => Err(ImageError::SeveralLayers { image: image.to_owned(), count: more + 1 }),
    }
}

#[cfg(test)]
mod tests;
