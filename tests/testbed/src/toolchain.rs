//! Compilation of guests: C and Rust for wasm32-wasip1, WebAssembly text, and static native
//! programs for sidecars.
//!
//! Each result is a cache entry with a key that covers the source and the toolchain, so that a
//! guest is compiled again only when either changes.

mod rust;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cache::{Cache, Key, sha256_of_file};
use crate::command::Run;
use crate::image::{classify, compile_if_text};
use crate::progress;
use crate::requirements::{self, Need};

pub use rust::guest as rust_guest;

/// Part of each key: increase it when the form of an entry changes.
const FORMAT: &str = "1";

/// The C library of guests.
const WASI_LIBC: &str = "/usr/lib/wasm32-wasi/libc.a";

/// clang with its requirements for WASI, as Debian packages.
const C_GUEST: &[Need] = &[
    Need {
        package: "clang",
        provides: "clang",
    },
    Need {
        package: "lld",
        provides: "wasm-ld",
    },
    Need {
        package: "wasi-libc",
        provides: WASI_LIBC,
    },
    Need {
        package: "libclang-rt-dev-wasm32",
        provides: "/usr/lib/clang/*/lib/wasi/libclang_rt.builtins-wasm32.a",
    },
];

/// The system's C compiler and the libraries for static linking.
const NATIVE: &[Need] = &[
    Need {
        package: "gcc",
        provides: "cc",
    },
    Need {
        package: "libc6-dev",
        provides: "/usr/lib/*/libc.a",
    },
];

/// Compiler options of every C program here.
const C_OPTIONS: &[&str] = &["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"];

/// Compiles the C program `source` for WASI.
///
/// # Errors
/// Fails if the toolchain cannot be installed or the program does not compile.
pub fn c_guest(cache: &Cache, source: &Path) -> Result<PathBuf> {
    requirements::install(C_GUEST)?;
    let identity = format!(
        "{}\n{}",
        Run::new("clang").arg("--version").text()?,
        sha256_of_file(Path::new(WASI_LIBC))?
    );
    let options = ["--target=wasm32-wasi", "-Wl,--strip-all"];
    compile(cache, source, "wasm", &identity, |out| {
        Run::new("clang")
            .args(C_OPTIONS)
            .args(options)
            .arg("-o")
            .arg(out)
            .arg(source)
            .done()
    })
}

/// Compiles the C program `source` for this machine, linked statically: it runs in an image without
/// other files.
///
/// # Errors
/// Fails as [`c_guest`] does.
pub fn native(cache: &Cache, source: &Path) -> Result<PathBuf> {
    requirements::install(NATIVE)?;
    let identity = Run::new("cc").arg("--version").text()?;
    compile(cache, source, "native", &identity, |out| {
        Run::new("cc")
            .args(C_OPTIONS)
            .args(["-static", "-s", "-o"])
            .arg(out)
            .arg(source)
            .done()
    })
}

/// Compiles the WebAssembly text `source`.
///
/// # Errors
/// Fails if the text is not valid.
pub fn wat(cache: &Cache, source: &Path) -> Result<PathBuf> {
    compile(cache, source, "wasm", "wat", |out| {
        let text = fs::read(source).with_context(|| format!("read {}", source.display()))?;
        let binary = compile_if_text(&text)?;
        fs::write(out, &binary).with_context(|| format!("write {}", out.display()))
    })
}

/// Returns the cache entry of `source` compiled by the toolchain `identity`: one file, `<source's
/// stem>.<kind>`.
fn compile(
    cache: &Cache,
    source: &Path,
    kind: &str,
    identity: &str,
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let text = fs::read(source).with_context(|| format!("read {}", source.display()))?;
    let stem = source.file_stem().unwrap_or_default().to_string_lossy();
    let name = format!("{stem}.{kind}");
    let options = C_OPTIONS.join(" ");
    let inputs = [
        FORMAT.as_bytes(),
        name.as_bytes(),
        options.as_bytes(),
        identity.as_bytes(),
        &text,
    ];
    let place = cache.entry("guests", &Key::of(inputs), |draft| {
        progress::step(format_args!("compiled {name}"), || {
            let out = draft.join(&name);
            build(&out)?;
            if kind == "wasm" { check(&out) } else { Ok(()) }
        })
        .with_context(|| format!("compile {}", source.display()))
    })?;
    Ok(place.join(name))
}

/// Checks that a compiler's output is a valid guest, to fail here rather than in the runtime.
fn check(guest: &Path) -> Result<()> {
    let bytes = fs::read(guest).with_context(|| format!("read {}", guest.display()))?;
    classify(&bytes)
        .with_context(|| format!("check {}", guest.display()))
        .map(drop)
}
