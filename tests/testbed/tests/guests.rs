//! Tests of all guests and examples: compiled, packed in each form, and read back from layout,
//! archive and registry.

use std::fs;
use std::process::Command;

use anyhow::Result;
use testbed::cache::Cache;
use testbed::examples;
use testbed::image::{
    self, Artifact, Compression, Packed, RootfsImage, WasmImage, WasmLayer, classify,
};
use testbed::registry::Registry;
use testbed::toolchain;

/// Packs `guest` in every form.
fn forms(reference: &str, guest: &[u8]) -> Result<Vec<Packed>> {
    let rootfs = RootfsImage::of_guest(reference, guest);
    let layered = |layer| {
        let entrypoint = vec!["app".to_owned()];
        WasmImage {
            reference: reference.to_owned(),
            guest: guest.to_vec(),
            layer,
            entrypoint,
            ..WasmImage::default()
        }
        .pack()
    };
    let mut forms = vec![
        rootfs.pack()?,
        RootfsImage {
            compression: Compression::Gzip,
            ..rootfs.clone()
        }
        .pack()?,
        rootfs.pack()?.behind_index(),
    ];
    for layer in WasmLayer::ALL {
        forms.push(layered(layer)?);
    }
    if classify(guest).is_ok() {
        let artifact = Artifact {
            reference: reference.to_owned(),
            guest: guest.to_vec(),
            layer: WasmLayer::Wasm,
        };
        forms.push(artifact.pack()?);
    }
    Ok(forms)
}

#[test]
fn every_guest_survives_layout_archive_and_registry_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open().unwrap();
    let registry = Registry::start(&cache, &folder.path().join("registry"), "127.0.0.1:0").unwrap();
    for guest in test_guests::ALL {
        let reference = format!(
            "{}/guests/{}:1",
            registry.address(),
            guest.name.replace('_', "-")
        );
        for (number, packed) in forms(&reference, &guest.bytes())
            .unwrap()
            .into_iter()
            .enumerate()
        {
            let layout = folder.path().join(format!("{}-{number}", guest.name));
            let archive = layout.with_extension("tar");
            packed.write_layout(&layout).unwrap();
            packed.write_archive(&archive).unwrap();
            packed.push(&registry.access()).unwrap();
            let digest = packed.root().digest();
            assert_eq!(image::read_layout(&layout).unwrap().root.digest, digest);
            assert_eq!(image::read_archive(&archive).unwrap().root.digest, digest);
            let pulled = image::pull(&reference, &registry.access()).unwrap();
            assert_eq!(pulled.root.digest, digest);
            assert_eq!(pulled.layers.len(), packed.blobs().len() - 1);
        }
    }
}

#[test]
fn registry_stops_with_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&Cache::open().unwrap(), folder.path(), "127.0.0.1:0").unwrap();
    let address = registry.address().to_owned();
    std::net::TcpStream::connect(&address).unwrap();
    drop(registry);
    std::net::TcpStream::connect(&address).unwrap_err();
}

#[test]
fn registry_that_cannot_listen_reports_the_cause() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let error = Registry::start(
        &Cache::open().unwrap(),
        folder.path(),
        &taken.local_addr().unwrap().to_string(),
    )
    .unwrap_err();
    assert!(
        format!("{error:#}").contains("address already in use"),
        "{error:#}"
    );
}

#[test]
fn the_c_guest_is_a_module_and_is_compiled_once() {
    let cache = Cache::open().unwrap();
    let guest = toolchain::c_guest(&cache, &test_guests::probe_source()).unwrap();
    assert_eq!(
        classify(&fs::read(&guest).unwrap()).unwrap(),
        image::Binary::Module
    );
    assert_eq!(
        toolchain::c_guest(&cache, &test_guests::probe_source()).unwrap(),
        guest
    );
}

#[test]
fn the_native_program_needs_no_library() {
    let program =
        toolchain::native(&Cache::open().unwrap(), &test_guests::native_source()).unwrap();
    let output = Command::new(&program)
        .args(["args", "a b"])
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("{}\nargs\na b\n", program.display())
    );
    assert_eq!(
        Command::new(&program)
            .args(["exit", "3"])
            .status()
            .unwrap()
            .code(),
        Some(3)
    );
    assert!(!wants_a_loader(&fs::read(&program).unwrap()));
}

/// Returns whether an ELF file has a program header that names a dynamic loader.
fn wants_a_loader(elf: &[u8]) -> bool {
    const PT_INTERP: usize = 3;
    let half = |at: usize| usize::from(u16::from_le_bytes([elf[at], elf[at + 1]]));
    let word = |at: usize| half(at) | half(at + 2) << 16;
    // The upper half of the offset is zero in a file of less than 4 GiB.
    let headers = word(32);
    let (size, count) = (half(54), half(56));
    (0..count).any(|number| word(headers + number * size) == PT_INTERP)
}

#[test]
fn every_example_compiles_and_is_pulled_as_the_image_its_pod_names() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open().unwrap();
    let registry = Registry::start(&cache, folder.path(), "127.0.0.1:0").unwrap();
    for example in examples::ALL {
        let packed = example.image(&cache, registry.address()).unwrap();
        packed.push(&registry.access()).unwrap();
        let reference = format!("{}/{}", registry.address(), example.repository());
        assert_eq!(
            image::pull(&reference, &registry.access())
                .unwrap()
                .root
                .digest,
            packed.root().digest()
        );
    }
}
