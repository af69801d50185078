//! The Wasm layer of a container's image, read from containerd's content store.
//!
//! A layer is found in an OCI image or CNCF Wasm artifact with one layer of a Wasm media type, and
//! in an index of such. For every other image the root file system is used, which containerd
//! unpacked.
//!
//! ```text
//! containerd's record of the container ─► Claim
//!     a name, from a client of containerd ──► the image with this name
//!     CRI: image id and the pod's name ─────► of the image with this name, the manifest with this id
//!     CRI: image id alone ──────────────────► the manifests with this id, if all have the same layer
//! ```
//!
//! An image's id is the digest of its configuration, and images with different layers can have the
//! same configuration. So an id alone never selects a layer if a second one exists: Create is
//! refused.

use std::sync::Arc;

use oci_spec::image::{Descriptor, ImageManifest};
use thiserror::Error;

mod candidates;
mod claim;
mod cache;
mod store;

pub(crate) use cache::{ImageCache, Layer};
pub(crate) use claim::{Claim, ClaimError, ContainerRecord};
pub(crate) use store::{Containerd, StoreError};

/// Media types of layers that hold a guest: CNCF's, the Bytecode Alliance's for components, and
/// that of `wasm-to-oci` and early registries.
pub(crate) const WASM_LAYERS: &[&str] = &[
    "application/wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
];

/// An image's Wasm layer cannot be determined.
#[derive(Debug, Error)]
pub(crate) enum ImageError {
    /// containerd did not answer, or not with the requested object.
    #[error("cannot ask containerd for {what}")]
    Store {
        /// The requested object.
        what: String,
        /// The cause.
        #[source]
        source: StoreError,
    },
    /// containerd's record of the container does not name its image.
    #[error("cannot determine the image of container {id}")]
    Claim {
        /// The container.
        id: String,
        /// The cause.
        #[source]
        source: ClaimError,
    },
    /// The image was removed from containerd while its container exists.
    #[error("image {image} is not in containerd's store any more: pull it again")]
    ImageGone {
        /// The image's name.
        image: String,
    },
    /// A manifest or index that cannot be decoded.
    #[error(
        "{digest} of image {image} is not a valid OCI manifest: pull the image again, or push it \
         again if that does not help"
    )]
    Manifest {
        /// The image's name.
        image: String,
        /// The manifest's digest.
        digest: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// An index without a pulled manifest.
    #[error(
        "image {image} is an index, and containerd holds none of its {entries} manifests: pull it \
         for this node's platform or for wasm"
    )]
    NoManifest {
        /// The image's name.
        image: String,
        /// The number of manifests in the index.
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
    /// The name now refers to another image than the one that the container was created from.
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
        /// The number of layers.
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
        /// The layer's digest.
        digest: String,
        /// Its size in bytes.
        size: u64,
        /// The maximum.
        limit: u64,
    },
    /// A layer that does not fit in memory.
    #[error("cannot keep layer {digest} of image {image} in memory")]
    Memory {
        /// The image's name.
        image: String,
        /// The layer's digest.
        digest: String,
        /// The cause.
        source: std::io::Error,
    },
    /// A layer with bytes that do not match its digest.
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

/// The part of containerd's API that image resolution needs.
pub(crate) trait ContentStore: Sync {
    /// Returns containerd's record of container `id`.
    fn container(
        &self,
        id: &str,
    ) -> impl Future<Output = Result<ContainerRecord, StoreError>> + Send;
    /// Returns the descriptor of the image with this name; none if there is no such image.
    fn target(
        &self,
        image: &str,
    ) -> impl Future<Output = Result<Option<Descriptor>, StoreError>> + Send;
    /// Returns the names of all images, with their descriptors.
    fn images(&self) -> impl Future<Output = Result<Vec<(String, Descriptor)>, StoreError>> + Send;
    /// Returns the digests of the manifests on this node that have this configuration.
    fn manifests_of(
        &self,
        config: &str,
    ) -> impl Future<Output = Result<Vec<String>, StoreError>> + Send;
    /// Returns whether the content is on this node.
    fn has(&self, digest: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Reads the content, at most `limit` bytes of it.
    fn read(
        &self,
        digest: &str,
        limit: u64,
    ) -> impl Future<Output = Result<Vec<u8>, StoreError>> + Send;
}

/// Returns the Wasm layer of the image of container `id`; none if the image has no Wasm layer, or
/// the container has no image.
///
/// # Errors
/// If containerd does not answer, or the image is damaged or ambiguous.
pub(crate) async fn wasm_layer(
    id: &str,
    store: &impl ContentStore,
    cache: &ImageCache,
) -> Result<Option<Arc<Layer>>, ImageError> {
    let failed = |what: String| move |source| ImageError::Store { what, source };
    let record = store
        .container(id)
        .await
        .map_err(failed(format!("container {id}")))?;
    let claim = Claim::of(record).map_err(|source| ImageError::Claim {
        id: id.to_owned(),
        source,
    })?;
    let Some((image, layer)) = candidates::layer(claim, store, cache).await? else {
        return Ok(None);
    };
    let (digest, size, limit) = (
        layer.digest().to_string(),
        layer.size(),
        super::kind::MAX_BINARY,
    );
    if let Some(layer) = cache.layer(&image, &digest) {
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
        .map_err(failed(format!("layer {digest} of image {image}")))?;
    Ok(Some(cache.insert_layer(image, digest, &bytes)?))
}

/// Returns the Wasm layer of `manifest`; none if it has none.
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
