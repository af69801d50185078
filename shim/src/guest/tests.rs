//! The rows of the decision list in [`super`].

use std::os::fd::AsFd as _;

use super::*;
use crate::bundle::Bundle;

fn select_file(name: &str, bytes: &[u8]) -> Result<Workload, GuestError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("rootfs")).unwrap();
    std::fs::write(folder.path().join("rootfs").join(name), bytes).unwrap();
    let spec = format!(r#"{{"ociVersion":"1.0.2","process":{{"user":{{"uid":0,"gid":0}},"cwd":"/","args":["/{name}"]}}}}"#);
    let bundle = Bundle::new(folder.path(), serde_json::from_str(&spec).unwrap());
    let root = File::open(folder.path().join("rootfs")).unwrap();
    select(bundle.command(), None, in_root(bundle.command(), &Root::Planned { bundle: &bundle, root: root.as_fd() }))
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
        let form = match select_file(name, bytes).unwrap() {
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
        let error = select_file("app.wasm", bytes).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("/app.wasm") && error.contains(": "), "{error}");
    }
}

#[test]
fn a_further_process_may_be_the_guest_itself_though_it_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("other.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let root = File::open(folder.path()).unwrap();
    let entrypoint = Entrypoint { path: "/app.wasm".to_owned(), function: START.to_owned() };
    let own = Guest {
        file: Arc::new(File::open("/dev/null").unwrap()),
        form: Form::Binary,
        origin: "layer".to_owned(),
        digest: None,
        entrypoint,
    };
    let select = |word: &str| {
        let args = [word.to_owned()];
        let command = Command { args: &args, env: &[], cwd: Path::new("/") };
        select_for_exec(command, &Root::Live(root.as_fd()), &own).map(|workload| match workload {
            Workload::Wasm(guest) => (guest.origin, guest.entrypoint.function),
            Workload::Native => ("native".to_owned(), String::new()),
        })
    };
    assert_eq!(select("/app.wasm#check").unwrap(), ("layer".to_owned(), "check".to_owned()));
    assert_eq!(select("/other.wasm").unwrap().0, "/other.wasm");
    assert!(matches!(select("/none.wasm"), Err(GuestError::NotFound { .. })));
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
