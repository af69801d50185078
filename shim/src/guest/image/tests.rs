//! Which layer is the guest, and what is refused, over an image store in memory.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use super::*;

#[derive(Default)]
struct Images {
    target: Option<Descriptor>,
    content: HashMap<String, Vec<u8>>,
}

impl Images {
    fn add(&mut self, bytes: &[u8]) -> (String, usize) {
        let digest = format!("sha256:{:x}", Sha256::digest(bytes));
        self.content.insert(digest.clone(), bytes.to_owned());
        (digest, bytes.len())
    }

    fn add_manifest(&mut self, layers: &[(&str, &[u8])]) -> (String, usize) {
        let layers: Vec<_> = layers
            .iter()
            .map(|(media_type, bytes)| {
                let (digest, size) = self.add(bytes);
                serde_json::json!({"mediaType": media_type, "digest": digest, "size": size})
            })
            .collect();
        let config =
            serde_json::json!({"mediaType": "application/vnd.wasm.config.v0+json", "digest": format!("sha256:{:064}", 0), "size": 2});
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.add(manifest.to_string().as_bytes())
    }

    fn target(mut self, media_type: &str, (digest, size): (String, usize)) -> Self {
        let descriptor = serde_json::json!({"mediaType": media_type, "digest": digest, "size": size});
        self.target = Some(serde_json::from_value(descriptor).unwrap());
        self
    }
}

impl ContentStore for Images {
    async fn image_of(&self, _: &str) -> Result<Option<String>, StoreError> {
        Ok(Some("example/app:1".to_owned()))
    }
    async fn target(&self, _: &str) -> Result<Option<Descriptor>, StoreError> {
        Ok(self.target.clone())
    }
    async fn has(&self, digest: &str) -> Result<bool, StoreError> {
        Ok(self.content.contains_key(digest))
    }
    async fn read(&self, digest: &str, _: u64) -> Result<Vec<u8>, StoreError> {
        let missing = || StoreError::Descriptor(format!("no content {digest}"));
        self.content.get(digest).cloned().ok_or_else(missing)
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn guest(images: &Images) -> Result<Option<Arc<Layer>>, ImageError> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(wasm_layer("c1", images, &Kept::default()))
}

fn with_layers(layers: &[(&str, &[u8])]) -> Images {
    let mut images = Images::default();
    let manifest = images.add_manifest(layers);
    images.target(MANIFEST, manifest)
}

fn bytes(layer: Option<Arc<Layer>>) -> Option<Vec<u8>> {
    let layer = layer?;
    assert!(layer.origin.contains("example/app:1") && layer.origin.contains("sha256:"), "{}", layer.origin);
    Some(crate::guest::read_all(&layer.file).unwrap())
}

#[test]
fn one_wasm_layer_of_any_known_type_is_the_guest() {
    for media_type in WASM_LAYERS {
        assert_eq!(bytes(guest(&with_layers(&[(TAR, b"tar"), (media_type, b"guest")])).unwrap()).as_deref(), Some(&b"guest"[..]));
    }
}

#[test]
fn an_image_without_a_wasm_layer_is_left_to_its_root_file_system() {
    assert!(guest(&with_layers(&[(TAR, b"tar")])).unwrap().is_none());
}

#[test]
fn two_wasm_layers_are_ambiguous() {
    let error = guest(&with_layers(&[("application/wasm", b"a"), ("application/wasm", b"b")])).unwrap_err();
    assert!(matches!(error, ImageError::SeveralLayers { count: 2, .. }), "{error}");
}

#[test]
fn an_index_leads_to_the_wasm_manifest_that_is_present() {
    let mut images = Images::default();
    let native = images.add_manifest(&[(TAR, b"tar")]);
    let wasm = images.add_manifest(&[("application/wasm", b"guest")]);
    let entry = |(digest, size): (String, usize), architecture: &str, os: &str| serde_json::json!({"mediaType": MANIFEST, "digest": digest, "size": size, "platform": {"architecture": architecture, "os": os}});
    let absent = (format!("sha256:{:064}", 7), 3);
    let manifests = [entry(absent, "wasm", "wasip2"), entry(native, "amd64", "linux"), entry(wasm, "wasm", "wasip1")];
    let index = serde_json::json!({"schemaVersion": 2, "manifests": manifests}).to_string();
    let index = images.add(index.as_bytes());
    assert_eq!(bytes(guest(&images.target(INDEX, index)).unwrap()).as_deref(), Some(&b"guest"[..]));
}

#[test]
fn an_index_of_which_nothing_was_pulled_is_refused() {
    let mut images = Images::default();
    let absent = serde_json::json!({"mediaType": MANIFEST, "digest": format!("sha256:{:064}", 7), "size": 3});
    let index = images.add(serde_json::json!({"schemaVersion": 2, "manifests": [absent]}).to_string().as_bytes());
    let error = guest(&images.target(INDEX, index)).unwrap_err();
    assert!(matches!(error, ImageError::NoManifest { entries: 1, .. }), "{error}");
}

#[test]
fn damage_is_an_error_and_never_a_reason_to_look_elsewhere() {
    let mut missing_layer = with_layers(&[("application/wasm", b"guest")]);
    missing_layer.content.retain(|_, bytes| bytes != b"guest");
    assert!(matches!(guest(&missing_layer).unwrap_err(), ImageError::Store { .. }));

    let mut changed_layer = with_layers(&[("application/wasm", b"guest")]);
    changed_layer.content.values_mut().filter(|bytes| **bytes == b"guest").for_each(|bytes| *bytes = b"other".to_vec());
    assert!(matches!(guest(&changed_layer).unwrap_err(), ImageError::Damaged { .. }));

    let mut images = Images::default();
    let garbage = images.add(b"not json");
    assert!(matches!(guest(&images.target(MANIFEST, garbage)).unwrap_err(), ImageError::Manifest { .. }));

    assert!(matches!(guest(&Images::default()).unwrap_err(), ImageError::ImageGone { .. }));
}
