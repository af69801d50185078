//! The rows of the decision list in [`super`].

use guest_sandbox::lookup::Inspect as _;
use kind::Inspection;

use super::*;

fn found(name: &str, bytes: &[u8]) -> FoundFile {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    let inspection = Inspection::inspect(&file, bytes.len() as u64, &Vec::new()).unwrap();
    FoundFile {
        file: file.into(),
        path: format!("/{name}").into(),
        size: bytes.len() as u64,
        inspection,
    }
}

fn select_file(name: &str, bytes: &[u8]) -> Result<Workload, WorkloadError> {
    from_file(
        Entrypoint::parse(&[format!("/{name}")])?,
        found(name, bytes),
    )
}

#[test]
fn bytes_decide_and_the_name_does_not() {
    let module = b"\0asm\x01\0\0\0";
    for (name, bytes, expected) in [
        ("app.wasm", &module[..], Some(Form::Binary)),
        ("app", module, Some(Form::Binary)),
        ("app.sh", b"(module)", Some(Form::Text)),
        ("app.wasm", b"\x7fELF", None),
        ("app.wat", b"#!/bin/sh", None),
    ] {
        let form = match select_file(name, bytes).unwrap() {
            Workload::Guest(guest) => Some(guest.form),
            Workload::Native => None,
        };
        assert_eq!(form, expected, "{name} {}", bytes.escape_ascii());
    }
}

#[test]
fn unusable_file_is_refused_with_a_next_step() {
    for (bytes, words) in [
        (&b"\0asm\x0d\0\x01\0"[..], "component"),
        (b"\0asm\x05\0\0\0", "version 5"),
        (
            &[&b"\x7fELF\x02\x01\x01"[..], &[0; 57]].concat(),
            "compiles guests itself",
        ),
        (
            &[&b"\x7fELF\x02\x01\x01\xc8"[..], &[1; 56]].concat(),
            "(`.so`, `.cwasm`)",
        ),
        (b"hello", "not a WebAssembly module"),
        (b"", "it is empty"),
    ] {
        let error = select_file("app.wasm", bytes).unwrap_err().to_string();
        assert!(
            error.contains(words) && error.contains("/app.wasm") && error.contains(": "),
            "{error}"
        );
    }
}

#[test]
fn exec_runs_the_containers_layer_where_no_file_has_its_name() {
    let null = || File::open("/dev/null").unwrap();
    let own = |bytes| {
        let entrypoint = Entrypoint {
            path: "/app.wasm".to_owned(),
            function: START.to_owned(),
        };
        GuestModule {
            bytes,
            size: 8,
            form: Form::Binary,
            origin: "layer".to_owned(),
            digest: Digest::of(b"layer"),
            entrypoint,
        }
    };
    let layer = own(Bytes::Memory(Arc::new(null())));
    let missing = |path: &str| {
        Err(WorkloadError::NotFound {
            entrypoint: path.to_owned(),
            looked_at: path.to_owned(),
        })
    };
    let select = |arg: &str, found, own: &GuestModule| {
        for_exec(Entrypoint::parse(&[arg.to_owned()]).unwrap(), found, own).map(|workload| {
            match workload {
                Workload::Guest(guest) => (guest.origin, guest.entrypoint.function),
                Workload::Native => ("native".to_owned(), String::new()),
            }
        })
    };
    let module = || Ok(found("other.wasm", b"\0asm\x01\0\0\0"));
    assert_eq!(
        select("/app.wasm#check", missing("/app.wasm"), &layer).unwrap(),
        ("layer".to_owned(), "check".to_owned())
    );
    assert_eq!(
        select("/other.wasm", module(), &layer).unwrap().0,
        "/other.wasm"
    );
    assert!(matches!(
        select("/none.wasm", missing("/none.wasm"), &layer),
        Err(WorkloadError::NotFound { .. })
    ));
    // The file of a container's guest may have been replaced or removed meanwhile.
    let path = Arc::new(null().into());
    let file = own(Bytes::File { path, known: None });
    assert!(matches!(
        select("/app.wasm", missing("/app.wasm"), &file),
        Err(WorkloadError::NotFound { .. })
    ));
}

#[test]
fn file_that_grew_above_the_limit_is_not_read() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(kind::MAX_BINARY).unwrap();
    assert_eq!(
        read_all(&file, 8).unwrap_err().to_string(),
        "it has 536870912 bytes by now; at most 8 are read"
    );
    file.set_len(8).unwrap();
    assert_eq!(read_all(&file, 8).unwrap(), [0; 8]);
}

#[test]
fn entrypoint_is_a_path_with_an_optional_function() {
    let parse = |text: &str| Entrypoint::parse(&[text.to_owned()]);
    let entrypoint = |path: &str, function: &str| Entrypoint {
        path: path.to_owned(),
        function: function.to_owned(),
    };
    assert_eq!(
        parse("/app.wasm").unwrap(),
        entrypoint("/app.wasm", "_start")
    );
    assert_eq!(
        parse("/app.wasm#greet").unwrap(),
        entrypoint("/app.wasm", "greet")
    );
    assert_eq!(
        parse("/app.wasm#a#b").unwrap(),
        entrypoint("/app.wasm", "a#b")
    );
    assert!(matches!(
        parse("/app.wasm#"),
        Err(WorkloadError::NoFunction { .. })
    ));
    assert!(matches!(parse(""), Err(WorkloadError::NoEntrypoint)));
    assert!(matches!(
        Entrypoint::parse(&[]),
        Err(WorkloadError::NoEntrypoint)
    ));
}
