//! Selection and refusal of layers, over an image store in memory.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest as _, Sha256};

use super::*;

const APP: &str = "registry.example/app:1";
const OTHER: &str = "a.example/other:1";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const WASM: &str = "application/wasm";

/// A store that evicts nothing; `container` is its only container.
#[derive(Default)]
struct Images {
    container: ContainerRecord,
    names: BTreeMap<String, Descriptor>,
    content: HashMap<String, Vec<u8>>,
}

impl Images {
    fn add(&mut self, bytes: &[u8]) -> (String, usize) {
        let digest = format!("sha256:{:x}", Sha256::digest(bytes));
        self.content.insert(digest.clone(), bytes.to_owned());
        (digest, bytes.len())
    }

    fn add_manifest(&mut self, layers: &[(&str, &[u8])]) -> (String, usize) {
        self.add_manifest_of(&config(0), layers)
    }

    fn add_manifest_of(&mut self, config: &str, layers: &[(&str, &[u8])]) -> (String, usize) {
        let layers: Vec<_> = layers
            .iter()
            .map(|(media_type, bytes)| {
                let (digest, size) = self.add(bytes);
                serde_json::json!({"mediaType": media_type, "digest": digest, "size": size})
            })
            .collect();
        let config = serde_json::json!({"mediaType": "application/vnd.wasm.config.v0+json",
            "digest": config, "size": 2});
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": config, "layers": layers});
        self.add(manifest.to_string().as_bytes())
    }

    fn add_index(&mut self, manifests: &[serde_json::Value]) -> (String, usize) {
        let index = serde_json::json!({"schemaVersion": 2, "manifests": manifests}).to_string();
        self.add(index.as_bytes())
    }

    fn name(&mut self, name: &str, media_type: &str, (digest, size): (String, usize)) {
        let descriptor =
            serde_json::json!({"mediaType": media_type, "digest": digest, "size": size});
        self.names
            .insert(name.to_owned(), serde_json::from_value(descriptor).unwrap());
    }

    /// Adds a container that a client of containerd created from what `APP` now names.
    fn target(mut self, media_type: &str, target: (String, usize)) -> Self {
        self.name(APP, media_type, target);
        self.container.image = APP.to_owned();
        self
    }

    /// Adds a container that kubelet created through CRI, of the image with configuration 0.
    fn of_pod(mut self, user_specified: &str) -> Self {
        let image = serde_json::json!({"image": config(0), "user_specified_image": user_specified});
        let metadata = serde_json::json!({"Version": "v1", "Metadata": {"Config": {"image": image},
            "ImageRef": config(0)}});
        // As CRI does: the first of the names.
        let first = self.names.keys().next().cloned().unwrap_or_default();
        self.container = ContainerRecord {
            image: first,
            is_cri: true,
            metadata: Some(metadata.to_string().into_bytes()),
        };
        self
    }
}

impl ContentStore for Images {
    async fn container(&self, _: &str) -> Result<ContainerRecord, StoreError> {
        Ok(self.container.clone())
    }
    async fn target(&self, image: &str) -> Result<Option<Descriptor>, StoreError> {
        Ok(self.names.get(image).cloned())
    }
    async fn images(&self) -> Result<Vec<(String, Descriptor)>, StoreError> {
        Ok(self.names.clone().into_iter().collect())
    }
    async fn manifests_of(&self, config: &str) -> Result<Vec<String>, StoreError> {
        let is_of = |bytes: &[u8]| {
            serde_json::from_slice::<ImageManifest>(bytes)
                .is_ok_and(|found| found.config().digest().as_ref() == config)
        };
        Ok(self
            .content
            .iter()
            .filter(|(_, bytes)| is_of(bytes))
            .map(|(digest, _)| digest.clone())
            .collect())
    }
    async fn has(&self, digest: &str) -> Result<bool, StoreError> {
        Ok(self.content.contains_key(digest))
    }
    async fn read(&self, digest: &str, _: u64) -> Result<Vec<u8>, StoreError> {
        let missing = || StoreError::Descriptor(format!("no content {digest}"));
        self.content.get(digest).cloned().ok_or_else(missing)
    }
}

/// Returns the digest of a configuration.
fn config(number: u8) -> String {
    format!("sha256:{number:064}")
}

fn guest(images: &Images) -> Result<Option<Arc<Layer>>, ImageError> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(wasm_layer("c1", images, &ImageCache::default()))
}

fn with_layers(layers: &[(&str, &[u8])]) -> Images {
    let mut images = Images::default();
    let manifest = images.add_manifest(layers);
    images.target(MANIFEST, manifest)
}

/// Returns a store of two images with one configuration: `APP`, whose layer is "guest", and
/// `OTHER`, which sorts first.
fn with_twins() -> Images {
    let mut images = with_layers(&[(WASM, b"guest")]);
    let other = images.add_manifest(&[(WASM, b"other")]);
    images.name(OTHER, MANIFEST, other);
    images
}

fn entry((digest, size): (String, usize), architecture: &str, os: &str) -> serde_json::Value {
    serde_json::json!({"mediaType": MANIFEST, "digest": digest, "size": size,
        "platform": {"architecture": architecture, "os": os}})
}

fn bytes(layer: Option<Arc<Layer>>) -> Option<Vec<u8>> {
    let layer = layer?;
    assert!(layer.origin.contains("sha256:"), "{}", layer.origin);
    Some(crate::workload::read_all(&layer.file, u64::MAX).unwrap())
}

#[test]
fn one_wasm_layer_of_any_known_type_is_the_guest() {
    for media_type in WASM_LAYERS {
        assert_eq!(
            bytes(guest(&with_layers(&[(TAR, b"tar"), (media_type, b"guest")])).unwrap())
                .as_deref(),
            Some(&b"guest"[..])
        );
    }
}

#[test]
fn image_without_a_wasm_layer_runs_from_its_root_file_system() {
    assert!(guest(&with_layers(&[(TAR, b"tar")])).unwrap().is_none());
}

#[test]
fn two_wasm_layers_are_ambiguous() {
    let error = guest(&with_layers(&[
        ("application/wasm", b"a"),
        ("application/wasm", b"b"),
    ]))
    .unwrap_err();
    assert!(
        matches!(error, ImageError::SeveralLayers { count: 2, .. }),
        "{error}"
    );
}

#[test]
fn index_selects_the_wasm_manifest_that_is_present() {
    let mut images = Images::default();
    let native = images.add_manifest(&[(TAR, b"tar")]);
    let wasm = images.add_manifest(&[("application/wasm", b"guest")]);
    let absent = (format!("sha256:{:064}", 7), 3);
    let manifests = [
        entry(absent, "wasm", "wasip2"),
        entry(native, "amd64", "linux"),
        entry(wasm, "wasm", "wasip1"),
    ];
    let index = images.add_index(&manifests);
    assert_eq!(
        bytes(guest(&images.target(INDEX, index)).unwrap()).as_deref(),
        Some(&b"guest"[..])
    );
}

#[test]
fn index_without_a_pulled_manifest_is_refused() {
    let mut images = Images::default();
    let absent = serde_json::json!({"mediaType": MANIFEST, "digest": format!("sha256:{:064}", 7),
        "size": 3});
    let index = images.add_index(&[absent]);
    let error = guest(&images.target(INDEX, index)).unwrap_err();
    assert!(
        matches!(error, ImageError::NoManifest { entries: 1, .. }),
        "{error}"
    );
}

#[test]
fn damaged_image_is_an_error_without_fallback() {
    let mut missing_layer = with_layers(&[("application/wasm", b"guest")]);
    missing_layer.content.retain(|_, bytes| bytes != b"guest");
    assert!(matches!(
        guest(&missing_layer).unwrap_err(),
        ImageError::Store { .. }
    ));

    let mut changed_layer = with_layers(&[("application/wasm", b"guest")]);
    changed_layer
        .content
        .values_mut()
        .filter(|bytes| **bytes == b"guest")
        .for_each(|bytes| *bytes = b"other".to_vec());
    assert!(matches!(
        guest(&changed_layer).unwrap_err(),
        ImageError::Damaged { .. }
    ));

    let mut images = Images::default();
    let garbage = images.add(b"not json");
    assert!(matches!(
        guest(&images.target(MANIFEST, garbage)).unwrap_err(),
        ImageError::Manifest { .. }
    ));

    let mut gone = with_layers(&[(WASM, b"guest")]);
    gone.names.clear();
    assert!(matches!(
        guest(&gone).unwrap_err(),
        ImageError::ImageGone { .. }
    ));
}

#[test]
fn container_without_an_image_has_no_layer() {
    assert!(guest(&Images::default()).unwrap().is_none());
}

#[test]
fn pod_runs_the_named_image_whatever_else_has_its_configuration() {
    let named = |name: &str| {
        let layer = guest(&with_twins().of_pod(name)).unwrap().unwrap();
        assert!(
            layer.origin.ends_with(&format!("of image {name}")),
            "{}",
            layer.origin
        );
        bytes(Some(layer)).unwrap()
    };
    assert_eq!(
        (named(APP), named(OTHER)),
        (b"guest".to_vec(), b"other".to_vec())
    );
}

#[test]
fn pod_runs_the_manifest_that_a_digest_names() {
    let mut images = with_twins();
    let digest = images.names[APP].digest().to_string();
    let name = format!("registry.example/app@{digest}");
    let manifest = (digest, 3);
    images.name(&name, MANIFEST, manifest);
    // The tag was moved meanwhile.
    let moved = images.names[OTHER].clone();
    images.names.insert(APP.to_owned(), moved);
    let user_specified = name.replace('@', ":1@");
    assert_eq!(
        bytes(guest(&images.of_pod(&user_specified)).unwrap()).as_deref(),
        Some(&b"guest"[..])
    );
}

#[test]
fn image_id_selects_no_layer_if_two_images_have_it() {
    for id in ["", &config(0)] {
        let error = guest(&with_twins().of_pod(id)).unwrap_err();
        assert!(matches!(error, ImageError::Ambiguous { .. }), "{error}");
        let text = error.to_string();
        for word in [APP, OTHER, &config(0), " and ", ": remove all but one"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}

#[test]
fn image_id_is_enough_if_all_its_images_run_the_same() {
    let alone = with_layers(&[(WASM, b"guest")]).of_pod("");
    assert_eq!(
        bytes(guest(&alone).unwrap()).as_deref(),
        Some(&b"guest"[..])
    );

    let mut same = with_layers(&[(WASM, b"guest")]);
    let copy = same.add_manifest(&[(TAR, b"tar"), (WASM, b"guest")]);
    same.name(OTHER, MANIFEST, copy);
    assert_eq!(
        bytes(guest(&same.of_pod("")).unwrap()).as_deref(),
        Some(&b"guest"[..])
    );

    let mut left_over = with_layers(&[(WASM, b"guest")]);
    left_over.add_manifest(&[(WASM, b"without a name")]);
    assert_eq!(
        bytes(guest(&left_over.of_pod("")).unwrap()).as_deref(),
        Some(&b"guest"[..])
    );
}

#[test]
fn image_id_counts_as_a_name_only_if_there_is_no_other() {
    let mut images = with_twins();
    let other = images.names.remove(OTHER).unwrap();
    images.names.insert(config(0), other);
    assert_eq!(
        bytes(guest(&images.of_pod("")).unwrap()).as_deref(),
        Some(&b"guest"[..])
    );

    let mut images = with_twins();
    let other = images.names.remove(OTHER).unwrap();
    images.names = BTreeMap::from([(config(0), other)]);
    assert_eq!(
        bytes(guest(&images.of_pod("")).unwrap()).as_deref(),
        Some(&b"other"[..])
    );
}

#[test]
fn image_without_a_wasm_layer_differs_from_one_with_the_same_id() {
    for layers in [
        &[][..],
        &[(TAR, &b"tar"[..])],
        &[(WASM, b"a"), (WASM, b"b")],
    ] {
        let mut images = with_layers(&[(WASM, b"guest")]);
        let other = images.add_manifest(layers);
        images.name(OTHER, MANIFEST, other);
        let error = guest(&images.of_pod("")).unwrap_err();
        assert!(matches!(error, ImageError::Ambiguous { .. }), "{error}");
    }
}

#[test]
fn image_of_an_index_is_named_if_two_have_one_id() {
    let mut images = with_twins();
    let manifest = images.names[APP].digest().to_string();
    let index = images.add_index(&[entry((manifest, 3), "amd64", "linux")]);
    images.name(APP, INDEX, index);
    let error = guest(&images.of_pod("")).unwrap_err();
    assert!(
        matches!(error, ImageError::Ambiguous { .. }) && error.to_string().contains(APP),
        "{error}"
    );
}

#[test]
fn name_that_moved_to_another_image_is_refused() {
    let mut images = Images::default();
    let other = images.add_manifest_of(&config(1), &[(WASM, b"other")]);
    images.name(APP, MANIFEST, other);
    let error = guest(&images.of_pod(APP)).unwrap_err();
    assert!(
        matches!(&error, ImageError::Moved { image, .. } if image == APP),
        "{error}"
    );
}

#[test]
fn removed_name_is_refused_though_another_has_the_id() {
    let mut images = with_twins();
    images.names.remove(APP);
    let error = guest(&images.of_pod(APP)).unwrap_err();
    assert!(
        matches!(&error, ImageError::ImageGone { image } if image == APP),
        "{error}"
    );
}

#[test]
fn pod_runs_the_manifest_of_an_index_with_its_image_id() {
    let index = |first: u8, second: u8| {
        let mut images = Images::default();
        let wasm = images.add_manifest_of(&config(first), &[(WASM, b"other")]);
        let native = images.add_manifest_of(&config(second), &[(WASM, b"guest")]);
        let index = images.add_index(&[
            entry(wasm, "wasm", "wasip1"),
            entry(native, "amd64", "linux"),
        ]);
        images.name(APP, INDEX, index);
        guest(&images.of_pod(APP))
    };
    assert_eq!(bytes(index(1, 0).unwrap()).as_deref(), Some(&b"guest"[..]));
    let error = index(0, 0).unwrap_err();
    assert!(
        matches!(error, ImageError::AmbiguousIndex { .. }),
        "{error}"
    );
    assert!(matches!(index(1, 1).unwrap_err(), ImageError::Moved { .. }));
}
