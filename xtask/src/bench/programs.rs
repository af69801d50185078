//! What the subjects run: the same two things, as a static Linux program and as a Wasm module.

use std::fs;

use anyhow::{Context as _, Result};
use testbed::cache::Cache;
use testbed::image::{Entry, Packed, RootfsImage};
use testbed::toolchain;

use super::report::Who;

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// Prints a line and ends.
    Hello,
    /// Nothing, until it is ended: a C program.
    Idle,
    /// The same: the smallest program that can.
    Rest,
}

/// An image, and the words that a container of it is started with.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// `repository:tag`, without a registry.
    pub(super) image: &'static str,
    pub(super) words: &'static [&'static str],
}

/// The image of the first container of a pod, where a pod has one.
pub(super) const PAUSE: &str = NATIVE;
/// The registry that images are named for where there is none.
pub(super) const NOWHERE: &str = "registry.test";

const NATIVE: &str = "bench/native:1";
const HELLO: &str = "bench/hello:1";
const PROBE: &str = "bench/probe:1";
const REST: &str = "bench/rest:1";

/// What `who` runs to do it.
pub(super) fn program(who: Who, does: Does) -> Program {
    match (who, does) {
        (Who::Runc, Does::Hello) => Program { image: NATIVE, words: &["/native", "args"] },
        (Who::Runc, Does::Idle | Does::Rest) => Program { image: NATIVE, words: &["/native", "sleep"] },
        (Who::Ours, Does::Hello) => Program { image: HELLO, words: &["/app.wasm"] },
        (Who::Ours, Does::Rest) => Program { image: REST, words: &["/app.wasm"] },
        (Who::Ours, Does::Idle) => Program { image: PROBE, words: &["/app.wasm", "sleep", "86400"] },
    }
}

/// All images, named for `registry`.
pub(super) fn images(cache: &Cache, registry: &str) -> Result<Vec<Packed>> {
    let read = |file: std::path::PathBuf| fs::read(&file).with_context(|| format!("read {}", file.display()));
    let native = RootfsImage {
        reference: format!("{registry}/{NATIVE}"),
        // As the first container of a pod it does what that has to do.
        entrypoint: vec!["/native".to_owned(), "sleep".to_owned()],
        files: vec![Entry::file("/native", read(toolchain::native(cache, &test_guests::native_source())?)?, 0o755)],
        ..RootfsImage::default()
    };
    let hello = RootfsImage::of_guest(&format!("{registry}/{HELLO}"), test_guests::HELLO.bytes());
    let rest = RootfsImage::of_guest(&format!("{registry}/{REST}"), test_guests::REST.bytes());
    let probe = RootfsImage::of_guest(&format!("{registry}/{PROBE}"), read(toolchain::c_guest(cache, &test_guests::probe_source())?)?);
    [native, hello, rest, probe].iter().map(RootfsImage::pack).collect()
}
