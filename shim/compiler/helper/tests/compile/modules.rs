//! Modules that are compiled, and those that are refused.

use std::io::{Read as _, Seek as _};
use std::path::PathBuf;

use anyhow::{Result, ensure};
use guest_compiler::{Backend, CompileError, FailureKind, Form, Tier};

use crate::host::{NewJob, nothing_is_left};

const BACKENDS: [Backend; 3] = [
    Backend::WasmEdge(Tier::Baseline),
    Backend::WasmEdge(Tier::Optimized),
    Backend::Wasmtime,
];

const TEXT: &str = r#"(module
    (memory (export "memory") 1)
    (data (i32.const 8) "some data of this module")
    (func $sum (param i32) (result i32) (local i32)
        (loop
            (local.set 1 (i32.add (local.get 1) (i32.load (local.get 0))))
            (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 4)))))
        (local.get 1))
    (func (export "_start") (drop (call $sum (i32.const 4096)))))"#;

fn plain() -> Result<Vec<u8>> {
    Ok(wat::parse_str(TEXT)?)
}

fn compiled(module: &[u8], backend: Backend, form: Form) -> Result<Vec<u8>> {
    let job = NewJob {
        backend,
        form,
        ..NewJob::of(module)?
    };
    Ok(job.code()?.0)
}

pub(crate) fn each_backend() -> Result<()> {
    for backend in BACKENDS {
        let job = NewJob {
            backend,
            ..NewJob::of(&plain()?)?
        };
        let (code, usage) = job.code()?;
        // Both engines' forms are ELF files.
        ensure!(
            code.starts_with(b"\x7fELF"),
            "{backend}: {} bytes",
            code.len()
        );
        ensure!(
            !usage.cpu.is_zero() && usage.peak > 1 << 20,
            "{backend}: {usage:?}"
        );
    }
    nothing_is_left()
}

pub(crate) fn text() -> Result<()> {
    for backend in BACKENDS {
        let binary = compiled(&plain()?, backend, Form::Binary)?;
        let text = compiled(TEXT.as_bytes(), backend, Form::Text)?;
        ensure!(
            binary == text,
            "{backend}: {} and {} bytes",
            binary.len(),
            text.len()
        );
    }
    Ok(())
}

pub(crate) fn native_code() -> Result<()> {
    let end = TEXT.rfind(')').unwrap_or_default();
    let hostile = format!(
        "{} (@custom \"wasmedge\" \"\\7fELF hostile\"))",
        &TEXT[..end]
    );
    let hostile = wat::parse_str(hostile)?;
    ensure!(hostile.windows(7).any(|bytes| bytes == b"hostile"));
    for backend in BACKENDS {
        let clean = compiled(&plain()?, backend, Form::Binary)?;
        let stripped = compiled(&hostile, backend, Form::Binary)?;
        ensure!(
            clean == stripped,
            "{backend}: {} and {} bytes",
            clean.len(),
            stripped.len()
        );
    }
    Ok(())
}

pub(crate) fn invalid() -> Result<()> {
    let plain = plain()?;
    let component = wat::parse_str("(component)")?;
    let mistyped = wat::parse_str("(module (func (result i32) (f32.const 0)))")?;
    let no_text: &[u8] = b"(module (func (export";
    for backend in BACKENDS {
        for (module, form, part) in [
            (
                &plain[..plain.len() - 9],
                Form::Binary,
                "not a valid WebAssembly module",
            ),
            (&component, Form::Binary, "is a component"),
            (&mistyped, Form::Binary, "type mismatch"),
            (b"\x7fELF", Form::Binary, "native code"),
            (no_text, Form::Text, "its text is not valid"),
            (b"", Form::Binary, "not a valid WebAssembly module"),
        ] {
            let job = NewJob {
                backend,
                form,
                ..NewJob::of(module)?
            };
            let failed = job.failure()?;
            ensure!(failed.kind == FailureKind::Refused, "{failed:?}");
            ensure!(failed.reason.contains(part), "{part}: {failed:?}");
        }
    }
    Ok(())
}

pub(crate) fn changed() -> Result<()> {
    let job = NewJob {
        sha256: [7; 32],
        ..NewJob::of(&plain()?)?
    };
    let error = job.error()?;
    ensure!(matches!(error, CompileError::Changed { .. }), "{error}");
    nothing_is_left()
}

pub(crate) fn copy() -> Result<()> {
    let mut copy = tempfile::tempfile()?;
    let job = NewJob {
        form: Form::Text,
        copy_to: Some(copy.try_clone()?.into()),
        ..NewJob::of(TEXT.as_bytes())?
    };
    job.code()?;
    let mut copied = String::new();
    copy.rewind()?;
    copy.read_to_string(&mut copied)?;
    ensure!(copied == TEXT, "{copied}");
    let again = NewJob {
        form: Form::Text,
        module: copy,
        ..NewJob::of(TEXT.as_bytes())?
    };
    again.code()?;
    Ok(())
}

pub(crate) fn no_program() -> Result<()> {
    for (loader, executable) in [(true, false), (false, true)] {
        let mut job = NewJob::of(&plain()?)?;
        if loader {
            job.programs.loader = PathBuf::from("/missing/ld.so");
        }
        if executable {
            job.programs.wasmedge.executable = PathBuf::from("/missing/wasmedge-compile");
        }
        let error = job.error()?.to_string();
        ensure!(error.contains("/missing/"), "{error}");
    }
    nothing_is_left()
}
