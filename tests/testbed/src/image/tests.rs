//! Tests of packing and reading back, in memory and in temporary folders.

use std::collections::BTreeMap;
use std::io::Read as _;

use super::*;

fn files_of_layer(layer: &Blob) -> BTreeMap<String, (u32, Vec<u8>)> {
    let plain = if layer.media_type().ends_with("+gzip") {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(layer.bytes())
            .read_to_end(&mut plain)
            .unwrap();
        plain
    } else {
        layer.bytes().to_vec()
    };
    let mut archive = tar::Archive::new(plain.as_slice());
    let read = |mut entry: tar::Entry<'_, &[u8]>| {
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (
            entry.path().unwrap().to_string_lossy().into_owned(),
            (entry.header().mode().unwrap(), bytes),
        )
    };
    archive
        .entries()
        .unwrap()
        .map(|entry| read(entry.unwrap()))
        .collect()
}

fn config_of(found: &Found) -> serde_json::Value {
    serde_json::from_slice(found.config.bytes()).unwrap()
}

fn there_and_back(packed: &Packed) -> Found {
    let folder = tempfile::tempdir().unwrap();
    packed.write_layout(&folder.path().join("layout")).unwrap();
    packed
        .write_archive(&folder.path().join("archive.tar"))
        .unwrap();
    let found = read_layout(&folder.path().join("layout")).unwrap();
    assert_eq!(
        found.root.digest,
        read_archive(&folder.path().join("archive.tar"))
            .unwrap()
            .root
            .digest
    );
    assert_eq!(found.root.digest, packed.root().digest());
    assert_eq!(
        found.reference.as_deref(),
        Some(packed.reference().as_str())
    );
    found
}

fn hello() -> Vec<u8> {
    test_guests::HELLO.bytes().into_owned()
}

#[test]
fn rootfs_image_holds_its_files_and_entrypoint() {
    for compression in [Compression::None, Compression::Gzip] {
        let image = RootfsImage {
            env: vec!["A=1".into()],
            working_dir: "/data".into(),
            compression,
            files: vec![
                Entry::file("/bin/deep/app", "x", 0o755),
                Entry::folder("/data", 0o700),
                Entry::link("/link", "bin/deep/app"),
            ],
            ..RootfsImage::of_guest("registry.example/team/app:1", hello())
        };
        let found = there_and_back(&image.pack().unwrap());
        let [layer] = found.layers.as_slice() else {
            panic!("one layer expected")
        };
        let files = files_of_layer(layer);
        assert_eq!(files["bin/deep/app"], (0o755, b"x".to_vec()));
        assert_eq!(
            files
                .iter()
                .map(|(path, (mode, _))| (path.as_str(), *mode))
                .collect::<Vec<_>>(),
            [
                ("bin", 0o755),
                ("bin/deep", 0o755),
                ("bin/deep/app", 0o755),
                ("data", 0o700),
                ("link", 0o777),
            ]
        );
        let config = config_of(&found);
        assert_eq!(config["config"]["Entrypoint"][0], "/app.wasm");
        assert_eq!(config["config"]["Env"][0], "A=1");
        assert_eq!(config["config"]["WorkingDir"], "/data");
        assert_eq!(config["os"], "linux");
    }
}

#[test]
fn diff_id_is_the_plain_tars_digest_for_any_compression() {
    let diff_ids = |compression| {
        let image = RootfsImage {
            compression,
            ..RootfsImage::of_guest("registry.example/app:1", hello())
        };
        config_of(&there_and_back(&image.pack().unwrap()))["rootfs"]["diff_ids"].clone()
    };
    let plain = diff_ids(Compression::None);
    assert_eq!(plain, diff_ids(Compression::Gzip));
    let image = RootfsImage::of_guest("registry.example/app:1", hello())
        .pack()
        .unwrap();
    assert_eq!(plain[0], image.blobs()[1].digest());
}

#[test]
fn entry_path_out_of_the_root_is_refused() {
    for path in ["../etc/passwd", "/a/../../b", "/"] {
        let image = RootfsImage {
            files: vec![Entry::file(path, "x", 0o644)],
            ..RootfsImage::of_guest("registry.example/app:1", hello())
        };
        let error = format!("{:#}", image.pack().unwrap_err());
        assert!(error.contains(path), "{error}");
    }
}

#[test]
fn layered_image_has_user_and_annotations() {
    let layer = |path: &str, compression| FileLayer {
        files: vec![Entry::file(path, "x", 0o644)],
        compression,
    };
    let image = LayeredImage {
        reference: "registry.example/app:1".into(),
        layers: vec![
            layer("/base", Compression::None),
            layer("/app", Compression::Gzip),
        ],
        entrypoint: vec!["/app".into()],
        user: "65532:65532".into(),
        labels: BTreeMap::from([("org.opencontainers.image.title".into(), "app".into())]),
    };
    let packed = image.pack().unwrap();
    let found = there_and_back(&packed);
    let config = config_of(&found);
    assert_eq!(
        (
            &config["config"]["User"],
            &config["config"]["Entrypoint"][0]
        ),
        (&"65532:65532".into(), &"/app".into())
    );
    assert_eq!(
        config["config"]["Labels"]["org.opencontainers.image.title"],
        "app"
    );
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
    // Another program does not change the layer below.
    let other = LayeredImage {
        layers: vec![image.layers[0].clone(), layer("/other", Compression::Gzip)],
        ..image
    };
    let other = other.pack().unwrap();
    assert_eq!(other.blobs()[1].digest(), packed.blobs()[1].digest());
    assert_ne!(other.blobs()[2].digest(), packed.blobs()[2].digest());
}

#[test]
fn file_is_the_only_layer_of_its_artifact() {
    let artifact = FileArtifact {
        reference: "registry.example/file:1".into(),
        media_type: "application/gzip".into(),
        name: "file.tar.gz".into(),
        bytes: b"bytes".to_vec(),
    };
    let found = there_and_back(&artifact.pack().unwrap());
    assert_eq!(
        found.layers.iter().map(Blob::bytes).collect::<Vec<_>>(),
        [b"bytes"]
    );
}

#[test]
fn image_read_from_an_archive_is_the_one_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.tar");
    let packed = RootfsImage::of_guest("registry.example/app:1", hello())
        .pack()
        .unwrap();
    packed.write_archive(&file).unwrap();
    let again = Packed::read_archive(&file).unwrap();
    assert_eq!(
        (again.reference(), again.root().digest()),
        (packed.reference(), packed.root().digest())
    );
    let named = again.named("localhost:5000/other:2").unwrap();
    assert_eq!(
        (named.reference().as_str(), named.root().digest()),
        ("localhost:5000/other:2", packed.root().digest())
    );
}

#[test]
fn artifact_lists_its_layer_in_its_configuration() {
    let packed = Artifact {
        reference: "registry.example/app:1".into(),
        guest: hello(),
        ..Artifact::default()
    }
    .pack()
    .unwrap();
    let found = there_and_back(&packed);
    assert_eq!(found.config.media_type(), WASM_CONFIG);
    assert_eq!(found.layers[0].media_type(), "application/wasm");
    let config = config_of(&found);
    assert_eq!(config["layerDigests"][0], found.layers[0].digest());
    assert_eq!(
        (&config["architecture"], &config["os"]),
        (&"wasm".into(), &"wasip1".into())
    );
}

#[test]
fn artifact_of_a_component_lists_its_exports() {
    let guest = test_guests::COMPONENT.bytes().into_owned();
    let packed = Artifact {
        reference: "registry.example/app:1".into(),
        guest,
        layer: WasmLayer::Component,
    }
    .pack()
    .unwrap();
    let found = there_and_back(&packed);
    let config = config_of(&found);
    assert_eq!(config["os"], "wasip2");
    assert_eq!(config["component"]["exports"][0], "answer");
}

#[test]
fn artifact_of_a_non_wasm_file_is_refused() {
    let guest = test_guests::NOT_WASM.bytes().into_owned();
    Artifact {
        reference: "registry.example/app:1".into(),
        guest,
        ..Artifact::default()
    }
    .pack()
    .unwrap_err();
}

#[test]
fn wasm_layer_is_not_part_of_the_root_file_system() {
    for layer in WasmLayer::ALL {
        let image = WasmImage {
            reference: "registry.example/app:1".into(),
            guest: hello(),
            layer,
            ..WasmImage::default()
        };
        let found = there_and_back(&image.pack().unwrap());
        assert_eq!(
            found
                .layers
                .iter()
                .map(Blob::media_type)
                .collect::<Vec<_>>(),
            [layer.media_type()]
        );
        assert_eq!(
            config_of(&found)["rootfs"]["diff_ids"]
                .as_array()
                .unwrap()
                .len(),
            0
        );

        let image = WasmImage {
            files: vec![Entry::file("/etc/motd", "x", 0o644)],
            ..image
        };
        let found = there_and_back(&image.pack().unwrap());
        assert_eq!(found.layers.len(), 2);
        assert_eq!(
            config_of(&found)["rootfs"]["diff_ids"][0],
            found.layers[0].digest()
        );
    }
}

#[test]
fn index_leads_to_the_same_image() {
    let plain = RootfsImage::of_guest("registry.example/app:1", hello())
        .pack()
        .unwrap();
    let found = there_and_back(&plain.clone().behind_index());
    assert_eq!(found.root.media_type, INDEX);
    assert_eq!(
        found.config.digest(),
        there_and_back(&plain).config.digest()
    );
}

#[test]
fn image_packed_twice_has_the_same_bytes() {
    let image = RootfsImage {
        compression: Compression::Gzip,
        ..RootfsImage::of_guest("registry.example/app:1", hello())
    };
    assert_eq!(
        image.pack().unwrap().root().digest(),
        image.pack().unwrap().root().digest()
    );
}

#[test]
fn layout_is_not_written_into_a_folder_with_other_files() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("thesis.txt"), "x").unwrap();
    let packed = RootfsImage::of_guest("registry.example/app:1", hello())
        .pack()
        .unwrap();
    packed.write_layout(folder.path()).unwrap_err();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn damaged_blob_is_detected() {
    let folder = tempfile::tempdir().unwrap();
    let packed = RootfsImage::of_guest("registry.example/app:1", hello())
        .pack()
        .unwrap();
    packed.write_layout(folder.path()).unwrap();
    let config = packed.blobs()[0].digest().replace(':', "/");
    std::fs::write(folder.path().join("blobs").join(config), "{}").unwrap();
    let error = format!("{:#}", read_layout(folder.path()).unwrap_err());
    assert!(error.contains("has the digest"), "{error}");
}

#[test]
fn plain_http_is_used_only_for_local_registries() {
    for (registry, transport) in [
        ("localhost:5000", Transport::Http),
        ("127.0.0.1:5000", Transport::Http),
        ("[::1]:5000", Transport::Http),
        ("registry.example", Transport::Https),
        ("10.0.0.1:5000", Transport::Https),
    ] {
        assert_eq!(Transport::usual_for(registry), transport, "{registry}");
    }
}
