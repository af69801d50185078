//! Linux images of several layers, as for the project's own programs: files that change together
//! are in one layer.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::rootfs::{Layer, config};
use super::{Blob, Compression, Entry, IMAGE_CONFIG, Packed};

/// An image that is made of layers, the lowest first.
#[derive(Debug, Clone, Default)]
pub struct LayeredImage {
    /// `registry/repository:tag`.
    pub reference: String,
    /// The root's content, layer by layer.
    pub layers: Vec<FileLayer>,
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// The user, as `uid:gid`; root if empty.
    pub user: String,
    /// Annotations, such as `org.opencontainers.image.*`.
    pub labels: BTreeMap<String, String>,
}

/// The files of one layer.
#[derive(Debug, Clone, Default)]
pub struct FileLayer {
    /// Its entries. Missing parent folders are added.
    pub files: Vec<Entry>,
    /// Its compression.
    pub compression: Compression,
}

impl LayeredImage {
    /// Packs it.
    ///
    /// # Errors
    /// Fails if the reference or a path is invalid.
    pub fn pack(&self) -> Result<Packed> {
        let layers: Vec<Layer> = self
            .layers
            .iter()
            .map(|layer| Layer::of(&layer.files, layer.compression))
            .collect::<Result<_>>()
            .with_context(|| format!("pack {}", self.reference))?;
        let mut config = config(
            &layers.iter().collect::<Vec<_>>(),
            &self.entrypoint,
            &[],
            &[],
            "/",
        );
        if !self.user.is_empty() {
            config["config"]["User"] = json!(self.user);
        }
        if !self.labels.is_empty() {
            config["config"]["Labels"] = json!(self.labels);
        }
        Packed::manifest(
            &self.reference,
            Blob::json(IMAGE_CONFIG, &config),
            layers.into_iter().map(|layer| layer.blob).collect(),
        )
    }
}

/// One file as an OCI artifact: its layer's digest is that of the file.
#[derive(Debug, Clone)]
pub struct FileArtifact {
    /// `registry/repository:tag`.
    pub reference: String,
    /// Media type of the file, and type of the artifact.
    pub media_type: String,
    /// The file's name, for clients that pull it to a folder.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl FileArtifact {
    /// Packs it.
    ///
    /// # Errors
    /// Fails if the reference is invalid.
    pub fn pack(self) -> Result<Packed> {
        let Self {
            reference,
            media_type,
            name,
            bytes,
        } = self;
        let empty = Blob::json("application/vnd.oci.empty.v1+json", &json!({}));
        let layer = Blob::new(&media_type, bytes);
        let mut descriptor = layer.descriptor();
        descriptor
            .annotations
            .insert("org.opencontainers.image.title".to_owned(), name);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": super::MANIFEST,
            "artifactType": media_type,
            "config": empty.descriptor(),
            "layers": [descriptor],
        });
        Packed::of(
            &reference,
            Blob::json(super::MANIFEST, &manifest),
            vec![empty, layer],
        )
    }
}
