//! The Wasm layer of a container's image, read from containerd's content store.
//!
//! Understood are: an OCI image or CNCF Wasm artifact that has one layer of a Wasm media type, and
//! an index whose entries are such; everything else is left to the root file system, which
//! containerd unpacked.
//!
//! ```text
//! containerd's record of the container ─► Claim
//!     a name, from a client of containerd ────────────► what the name leads to
//!     CRI: the image's id and the name in the pod ────► of what the name leads to, the manifest with this id
//!     CRI: the image's id alone ──────────────────────► the manifests with this id, if all have the same layer
//! ```
//!
//! An image's id is the digest of its configuration, and images with different layers can have the
//! same configuration. So an id alone never selects a layer where a second one exists: Create is
//! refused.

use std::sync::Arc;

use oci_spec::image::{Descriptor, ImageManifest};
use thiserror::Error;

mod candidates;
mod claim;
mod kept;
mod store;

pub use claim::{Claim, ClaimError, ContainerRecord};
pub use kept::{Kept, Layer};
pub use store::{Containerd, StoreError};

/// Media types of a layer that is a guest: CNCF's, the component layer type of the Bytecode
/// Alliance, and the one that `wasm-to-oci` and early registries used.
pub const WASM_LAYERS: &[&str] = &[
    "application/wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
];

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
    /// containerd's record of the container does not say which image it has.
    #[error("cannot find out the image of container {id}")]
    Claim {
        /// The container.
        id: String,
        /// Why.
        #[source]
        source: ClaimError,
    },
    /// The image was removed from containerd while its container exists.
    #[error("image {image} is not in containerd's store any more: pull it again")]
    ImageGone {
        /// The image's name.
        image: String,
    },
    /// A manifest or index that cannot be read.
    #[error(
        "{digest} of image {image} is no OCI manifest: pull the image again, or push it again if \
         that does not help"
    )]
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
        "image {image} is an index, and containerd holds none of its {entries} manifests: pull it \
         for this node's platform or for wasm"
    )]
    NoManifest {
        /// The image's name.
        image: String,
        /// How many manifests the index names.
        entries: usize,
    },
    /// An index within an index.
    #[error(
        "image {image}: manifest {digest} is an index within an index: push the image with one \
         index"
    )]
    NestedIndex {
        /// The image's name.
        image: String,
        /// The inner index.
        digest: String,
    },
    /// The name leads to another image than the one that the container was created from.
    #[error(
        "image {image} has changed since the container was created from it (image id {config}): it \
         was pulled again; create the container \
         again, as kubelet does by itself"
    )]
    Moved {
        /// The image's name.
        image: String,
        /// The id of the image that the container was created from.
        config: String,
    },
    /// Images with the same configuration and different modules, and no name to select one of them.
    #[error(
        "cannot select the image to run: {images} have the same image id {config} and different \
         WebAssembly modules, and the container's \
         request holds the id alone: remove all but one from the node, or build them with \
         configurations that differ (a label is enough); \
         Kubernetes 1.28 with containerd 2.0 and later versions also pass on the name"
    )]
    Ambiguous {
        /// The names, each with its manifest.
        images: String,
        /// The image id that they share.
        config: String,
    },
    /// An index with several manifests of one configuration and different modules.
    #[error(
        "image {image} is an index in which {manifests} have the same configuration {config} and \
         different WebAssembly modules: name one \
         of them by its digest, or build them with configurations that differ (a label is enough)"
    )]
    AmbiguousIndex {
        /// The image's name.
        image: String,
        /// The digests of the manifests.
        manifests: String,
        /// The digest of the configuration.
        config: String,
    },
    /// More than one Wasm layer.
    #[error(
        "image {image} has {count} Wasm layers; one is run: push each guest as an image of its own"
    )]
    SeveralLayers {
        /// The image's name.
        image: String,
        /// How many.
        count: usize,
    },
    /// A layer too large to be a guest.
    #[error(
        "layer {digest} of image {image} has {size} bytes; at most {limit} are read: shrink the \
         guest (`wasm-opt -Oz`, `strip`)"
    )]
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
    #[error(
        "layer {digest} of image {image} is damaged on this node (its bytes have digest {found}): \
         remove the image and pull it again"
    )]
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
    /// What containerd knows of the image of container `id`.
    fn container(
        &self,
        id: &str,
    ) -> impl Future<Output = Result<ContainerRecord, StoreError>> + Send;
    /// The descriptor that the image's name stands for; `None` if there is no such image.
    fn target(
        &self,
        image: &str,
    ) -> impl Future<Output = Result<Option<Descriptor>, StoreError>> + Send;
    /// Every image's name, with the descriptor that it stands for.
    fn images(&self) -> impl Future<Output = Result<Vec<(String, Descriptor)>, StoreError>> + Send;
    /// The digests of the manifests on this node that have this configuration.
    fn manifests_of(
        &self,
        config: &str,
    ) -> impl Future<Output = Result<Vec<String>, StoreError>> + Send;
    /// Whether the content is present on this node.
    fn has(&self, digest: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// The content, at most `limit` bytes of it.
    fn read(
        &self,
        digest: &str,
        limit: u64,
    ) -> impl Future<Output = Result<Vec<u8>, StoreError>> + Send;
}

/// The Wasm layer of the image that container `id` was made from; `None` when the guest, if there
/// is one, is in the root file system: the image has no Wasm layer, or the container has no image.
///
/// # Errors
/// When containerd does not answer, the image is damaged, or it is ambiguous.
pub async fn wasm_layer(
    id: &str,
    store: &impl ContentStore,
    kept: &Kept,
) -> Result<Option<Arc<Layer>>, ImageError> {
    let asked = |what: String| move |source| ImageError::Store { what, source };
    let record = store
        .container(id)
        .await
        .map_err(asked(format!("container {id}")))?;
    let claim = Claim::of(record).map_err(|source| ImageError::Claim {
        id: id.to_owned(),
        source,
    })?;
    let Some((image, layer)) = candidates::layer(claim, store, kept).await? else {
        return Ok(None);
    };
    let (digest, size, limit) = (
        layer.digest().to_string(),
        layer.size(),
        super::kind::MAX_BINARY,
    );
    if let Some(layer) = kept.layer(&image, &digest) {
        return Ok(Some(layer));
    }
    if size > limit {
        return Err(ImageError::LayerTooLarge {
            image,
            digest,
            size,
            limit,
        });
    }
    let bytes = store
        .read(&digest, limit)
        .await
        .map_err(asked(format!("layer {digest} of image {image}")))?;
    Ok(Some(kept.keep_layer(image, digest, &bytes)?))
}

/// The one Wasm layer of `manifest`, if it has any.
fn select_layer(image: &str, manifest: &ImageManifest) -> Result<Option<Descriptor>, ImageError> {
    let mut layers = manifest
        .layers()
        .iter()
        .filter(|layer| WASM_LAYERS.contains(&layer.media_type().to_string().as_str()));
    let first = layers.next();
    match layers.count() {
        0 => Ok(first.cloned()),
        more => Err(ImageError::SeveralLayers {
            image: image.to_owned(),
            count: more + 1,
        }),
    }
}

#[cfg(test)]
mod tests;
