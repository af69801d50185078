//! The rows of the decision list in [`super`].

use std::sync::atomic::{AtomicU32, Ordering};

use oci_spec::image::Descriptor;

use super::image::StoreError;
use super::*;

/// A containerd that knows no images; counts how often it is asked.
#[derive(Default)]
struct NoImages(AtomicU32);

impl ContentStore for NoImages {
    async fn image_of(&self, _: &str) -> Result<Option<String>, StoreError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(None)
    }
    async fn target(&self, _: &str) -> Result<Option<Descriptor>, StoreError> {
        unreachable!("the container has no image")
    }
    async fn has(&self, _: &str) -> Result<bool, StoreError> {
        unreachable!("the container has no image")
    }
    async fn read(&self, _: &str, _: u64) -> Result<Vec<u8>, StoreError> {
        unreachable!("the container has no image")
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn select_file(name: &str, bytes: &[u8], annotations: &str) -> (Result<Workload, CreateError>, u32) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("rootfs")).unwrap();
    std::fs::write(folder.path().join("rootfs").join(name), bytes).unwrap();
    let spec = format!(
        r#"{{"ociVersion":"1.0.2","root":{{"path":"rootfs"}},"process":{{"user":{{"uid":0,"gid":0}},"cwd":"/","args":["/{name}"]}},"annotations":{annotations}}}"#
    );
    let bundle = Bundle::new(folder.path(), serde_json::from_str(&spec).unwrap());
    let store = NoImages::default();
    let result = runtime().block_on(select(&bundle, "c1", &store));
    (result, store.0.into_inner())
}

#[test]
fn the_bytes_decide_and_the_name_does_not() {
    let module = b"\0asm\x01\0\0\0";
    for (name, bytes, expected) in [
        ("app.wasm", &module[..], Some(Form::Binary)),
        ("app", module, Some(Form::Binary)),
        ("app.sh", b"(module)", Some(Form::Text)),
        ("app.wasm", b"\x7fELF", None),
        ("app.wat", b"#!/bin/sh", None),
    ] {
        let form = match select_file(name, bytes, "{}").0.unwrap() {
            Workload::Wasm(guest) => Some(guest.form),
            Workload::Native => None,
        };
        assert_eq!(form, expected, "{name} {}", bytes.escape_ascii());
    }
}

#[test]
fn what_cannot_run_is_refused_with_a_next_step() {
    for (bytes, words) in [
        (&b"\0asm\x0d\0\x01\0"[..], "component"),
        (b"\0asm\x05\0\0\0", "version 5"),
        (b"hello", "no WebAssembly module"),
        (b"", "it is empty"),
    ] {
        let error = select_file("app.wasm", bytes, "{}").0.unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("/app.wasm") && error.contains(": "), "{error}");
    }
}

#[test]
fn a_sandbox_is_native_and_nobody_is_asked_about_its_image() {
    let (result, asked) = select_file("pause", b"anything", r#"{"io.kubernetes.cri.container-type":"sandbox"}"#);
    assert!(matches!(result.unwrap(), Workload::Native));
    assert_eq!(asked, 0);
}

#[test]
fn an_entrypoint_is_a_path_and_perhaps_a_function() {
    let parse = |text: &str| Entrypoint::parse(&[text.to_owned()]);
    let entrypoint = |path: &str, function: &str| Entrypoint { path: path.to_owned(), function: function.to_owned() };
    assert_eq!(parse("/app.wasm").unwrap(), entrypoint("/app.wasm", "_start"));
    assert_eq!(parse("/app.wasm#greet").unwrap(), entrypoint("/app.wasm", "greet"));
    assert_eq!(parse("/app.wasm#a#b").unwrap(), entrypoint("/app.wasm", "a#b"));
    assert!(matches!(parse("/app.wasm#"), Err(GuestError::NoFunction { .. })));
    assert!(matches!(parse(""), Err(GuestError::NoEntrypoint)));
    assert!(matches!(Entrypoint::parse(&[]), Err(GuestError::NoEntrypoint)));
}

#[test]
fn sealed_bytes_cannot_be_changed() {
    let mut file = sealed(b"guest").unwrap();
    assert!(file.write_all(b"x").is_err());
    assert_eq!(read_all(&mut file).unwrap(), b"guest");
}
