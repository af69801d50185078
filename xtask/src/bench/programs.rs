//! The programs that subjects run: the same two behaviours, as a static Linux program and as a Wasm
//! module.

use std::fs;

use anyhow::{Context as _, Result, bail};
use testbed::cache::Cache;
use testbed::image::{Entry, Packed, RootfsImage, WasmImage};
use testbed::toolchain;

/// The form in which a subject takes its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Workload {
    /// A Wasm module in the image's root file system, which is the entrypoint.
    #[default]
    Rootfs,
    /// A Wasm module in a layer of its own.
    Layer,
    /// A static Linux program.
    Native,
}

impl Workload {
    const ALL: [Self; 3] = [Self::Rootfs, Self::Layer, Self::Native];

    /// Parses the name that `--peer` takes.
    ///
    /// # Errors
    /// When no workload has it.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let Some(workload) = Self::ALL
            .into_iter()
            .find(|workload| workload.as_str() == text)
        else {
            bail!(
                "the workload {text:?} is not known: expected one of {}",
                Self::ALL.map(Self::as_str).join(", ")
            )
        };
        Ok(workload)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Rootfs => "rootfs",
            Self::Layer => "layer",
            Self::Native => "native",
        }
    }

    /// Describes the program for a report.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Rootfs => "a Wasm module in the root file system",
            Self::Layer => "a Wasm module in a layer of its own",
            Self::Native => "a static Linux program",
        }
    }
}

/// The behaviour of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// Prints a line and exits.
    Hello,
    /// Does nothing until it is killed: a C program.
    Idle,
    /// Does nothing until it is killed: the smallest possible program.
    Rest,
}

/// An image, and the arguments of its containers.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// `repository:tag`, without a registry.
    pub(super) image: &'static str,
    pub(super) words: &'static [&'static str],
}

/// The image of the first container of a pod, if a pod has one.
pub(super) const PAUSE: &str = NATIVE;
/// The registry in image names that need none.
pub(super) const NOWHERE: &str = "registry.test";

const NATIVE: &str = "bench/native:1";
const HELLO: &str = "bench/hello:1";
const PROBE: &str = "bench/probe:1";
const REST: &str = "bench/rest:1";
const HELLO_LAYER: &str = "bench/hello-layer:1";
const PROBE_LAYER: &str = "bench/probe-layer:1";
const REST_LAYER: &str = "bench/rest-layer:1";
/// The guest's name for itself, and its path in a root file system.
const GUEST: &str = "/app.wasm";

/// Returns the program of a workload with this behaviour.
pub(super) fn program(workload: Workload, does: Does) -> Program {
    let (image, words): (_, &[_]) = match (workload, does) {
        (Workload::Native, Does::Hello) => (NATIVE, &["/native", "args"]),
        (Workload::Native, Does::Idle | Does::Rest) => (NATIVE, &["/native", "sleep"]),
        (Workload::Rootfs, Does::Hello) => (HELLO, &[GUEST]),
        (Workload::Rootfs, Does::Idle) => (PROBE, &[GUEST, "sleep", "86400"]),
        (Workload::Rootfs, Does::Rest) => (REST, &[GUEST]),
        (Workload::Layer, Does::Hello) => (HELLO_LAYER, &[GUEST]),
        (Workload::Layer, Does::Idle) => (PROBE_LAYER, &[GUEST, "sleep", "86400"]),
        (Workload::Layer, Does::Rest) => (REST_LAYER, &[GUEST]),
    };
    Program { image, words }
}

/// Builds all images of these workloads, named for `registry`, always with that of a pod's first
/// container.
pub(super) fn images(cache: &Cache, registry: &str, workloads: &[Workload]) -> Result<Vec<Packed>> {
    let read = |file: std::path::PathBuf| {
        fs::read(&file).with_context(|| format!("read {}", file.display()))
    };
    let native = RootfsImage {
        reference: format!("{registry}/{NATIVE}"),
        // As the first container of a pod it only waits.
        entrypoint: vec!["/native".to_owned(), "sleep".to_owned()],
        files: vec![Entry::file(
            "/native",
            read(toolchain::native(cache, &test_guests::native_source())?)?,
            0o755,
        )],
        ..RootfsImage::default()
    };
    let mut images = vec![native.pack()?];
    let probe = read(toolchain::c_guest(cache, &test_guests::probe_source())?)?;
    let guests = [
        (HELLO, HELLO_LAYER, test_guests::HELLO.bytes().into_owned()),
        (REST, REST_LAYER, test_guests::REST.bytes().into_owned()),
        (PROBE, PROBE_LAYER, probe),
    ];
    for (rootfs, layer, guest) in guests {
        if workloads.contains(&Workload::Rootfs) {
            images.push(
                RootfsImage::of_guest(&format!("{registry}/{rootfs}"), guest.clone()).pack()?,
            );
        }
        if workloads.contains(&Workload::Layer) {
            let entrypoint = vec![GUEST.to_owned()];
            // CRI identifies images by their configuration, which does not list Wasm layers.
            let env = vec![format!("IMAGE={layer}")];
            images.push(
                WasmImage {
                    reference: format!("{registry}/{layer}"),
                    guest,
                    entrypoint,
                    env,
                    ..WasmImage::default()
                }
                .pack()?,
            );
        }
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workload_is_parsed_by_its_name() {
        for workload in Workload::ALL {
            assert_eq!(Workload::parse(workload.as_str()).unwrap(), workload);
        }
        let error = Workload::parse("wasm").unwrap_err().to_string();
        assert!(
            error.contains("\"wasm\"") && error.contains("rootfs, layer, native"),
            "{error}"
        );
    }

    #[test]
    fn every_workload_has_one_short_and_two_long_running_programs() {
        for workload in Workload::ALL {
            let [hello, idle, rest] =
                [Does::Hello, Does::Idle, Does::Rest].map(|does| program(workload, does));
            assert_eq!([idle.words[0], rest.words[0]], [hello.words[0]; 2]);
            assert_eq!(hello.image.contains("-layer"), workload == Workload::Layer);
            assert_eq!(idle.image == rest.image, workload == Workload::Native);
        }
    }
}
