//! Images with the guest in a layer of its own: CNCF Wasm artifacts, and images with a Wasm layer.
//!
//! Tried with containerd: 2.4.2 accepts both, and skips Wasm layers when it unpacks. `ctr` 2.4.2
//! imports an artifact but cannot create a container from its configuration ("unknown image config
//! media type"); only CRI can. Debian 12's 1.6 refuses both, behind an index or not ("mismatched
//! image rootfs and manifest layers"): there a guest needs a [`RootfsImage`](super::RootfsImage).

use anyhow::{Context as _, Result};
use serde_json::json;

use super::rootfs::{Compression, Entry, Layer, config};
use super::{Binary, Blob, CREATED, IMAGE_CONFIG, Packed, WASM_CONFIG, classify, world};

/// The media types of guests in registries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WasmLayer {
    /// `application/wasm`, which the CNCF's artifact format requires.
    #[default]
    Wasm,
    /// The type of runwasi's first images, for modules as well as components.
    Component,
    /// The type of the oldest tools.
    Content,
}

impl WasmLayer {
    /// All media types.
    pub const ALL: [Self; 3] = [Self::Wasm, Self::Component, Self::Content];

    /// Returns the media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Wasm => "application/wasm",
            Self::Component => "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
            Self::Content => "application/vnd.wasm.content.layer.v1+wasm",
        }
    }
}

/// A CNCF Wasm artifact: a configuration of its own type and the guest as the only layer.
#[derive(Debug, Clone, Default)]
pub struct Artifact {
    /// `registry/repository:tag`.
    pub reference: String,
    /// The guest.
    pub guest: Vec<u8>,
    /// The layer's media type.
    pub layer: WasmLayer,
}

impl Artifact {
    /// Packs it.
    ///
    /// # Errors
    /// Fails if the reference is invalid, or the guest is neither a module nor a component.
    pub fn pack(&self) -> Result<Packed> {
        let binary = classify(&self.guest).with_context(|| format!("pack {}", self.reference))?;
        let layer = Blob::new(self.layer.media_type(), self.guest.clone());
        let mut config = json!({
            "created": CREATED,
            "architecture": "wasm",
            "os": "wasip1",
            "layerDigests": [layer.digest()],
        });
        if binary == Binary::Component {
            let world = world(&self.guest)?;
            config["os"] = json!("wasip2");
            config["component"] = json!({ "imports": world.imports, "exports": world.exports });
        }
        Packed::manifest(
            &self.reference,
            Blob::json(WASM_CONFIG, &config),
            vec![layer],
        )
    }
}

/// A Linux image with the guest in a Wasm layer, after a file system layer if there are files.
///
/// `rootfs.diff_ids` names the file system layer alone: containerd unpacks every layer listed
/// there, and a Wasm layer would fail, which leaves no snapshot to start from.
#[derive(Debug, Clone, Default)]
pub struct WasmImage {
    /// `registry/repository:tag`.
    pub reference: String,
    /// The guest, unchecked: tests also pack invalid ones.
    pub guest: Vec<u8>,
    /// The layer's media type.
    pub layer: WasmLayer,
    /// The guest's arguments, argument 0 first.
    pub entrypoint: Vec<String>,
    /// `NAME=value` each.
    pub env: Vec<String>,
    /// The working directory; `/` if empty.
    pub working_dir: String,
    /// Further entries of the root file system.
    pub files: Vec<Entry>,
}

impl WasmImage {
    /// Packs it.
    ///
    /// # Errors
    /// Fails if the reference or a path is invalid.
    pub fn pack(&self) -> Result<Packed> {
        let rootfs = if self.files.is_empty() {
            None
        } else {
            Some(Layer::of(&self.files, Compression::None)?)
        };
        let layers: Vec<&Layer> = rootfs.iter().collect();
        let config = config(&layers, &self.entrypoint, &[], &self.env, &self.working_dir);
        let guest = Blob::new(self.layer.media_type(), self.guest.clone());
        let blobs = rootfs
            .map(|layer| layer.blob)
            .into_iter()
            .chain([guest])
            .collect();
        Packed::manifest(&self.reference, Blob::json(IMAGE_CONFIG, &config), blobs)
    }
}
