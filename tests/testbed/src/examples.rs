//! The programs in `examples/`: build, packing as in their README, and their pods' expected output.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cache::Cache;
use crate::image::{Packed, RootfsImage};
use crate::toolchain;

/// The registry in the examples' `pod.yaml`. Clusters map this name to a registry that has the
/// images.
pub const REGISTRY: &str = "registry.local:5000";

/// One example.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// The name of its folder and of its pod.
    pub name: &'static str,
    source: Source,
}

/// An example's source: a file within its folder, or the folder as a Rust package.
#[derive(Debug, Clone, Copy)]
enum Source {
    Text(&'static str),
    C(&'static str),
    Rust,
}

/// All examples, the simplest first.
pub const ALL: &[Example] = &[
    Example {
        name: "hello",
        source: Source::Text("hello.wat"),
    },
    Example {
        name: "c-config",
        source: Source::C("config.c"),
    },
    Example {
        name: "rust-word-count",
        source: Source::Rust,
    },
];

impl Example {
    /// Returns its folder.
    pub fn folder(&self) -> PathBuf {
        examples_folder().join(self.name)
    }

    /// Returns the manifest for `kubectl apply`.
    pub fn pod(&self) -> PathBuf {
        self.folder().join("pod.yaml")
    }

    /// Returns the log of its pod after completion.
    ///
    /// # Errors
    /// Fails if `expected.txt` cannot be read.
    pub fn expected(&self) -> Result<String> {
        let file = self.folder().join("expected.txt");
        fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))
    }

    /// Compiles its program.
    ///
    /// # Errors
    /// Fails if the toolchain cannot be installed, or the program does not compile.
    pub fn guest(&self, cache: &Cache) -> Result<PathBuf> {
        let folder = self.folder();
        match self.source {
            Source::Text(file) => toolchain::wat(cache, &folder.join(file)),
            Source::C(file) => toolchain::c_guest(cache, &folder.join(file)),
            Source::Rust => toolchain::rust_guest(cache, &folder),
        }
    }

    /// Packs its image as `cargo xtask pack --image` does, with a name in `registry` (`host:port`).
    ///
    /// # Errors
    /// Fails as [`Example::guest`] does.
    pub fn image(&self, cache: &Cache, registry: &str) -> Result<Packed> {
        let file = self.guest(cache)?;
        let guest = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        RootfsImage::of_guest(&format!("{registry}/{}", self.repository()), guest).pack()
    }

    /// Returns its repository and tag.
    pub fn repository(&self) -> String {
        format!("examples/{}:1", self.name)
    }
}

/// Returns the folder `examples` of this source tree.
pub fn examples_folder() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples"))
        .components()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_examples_folder_is_listed_and_complete() {
        let folder = examples_folder();
        let mut found: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .collect();
        found.sort_by_key(fs::DirEntry::file_name);
        let mut known: Vec<_> = ALL.iter().map(|example| example.name).collect();
        known.sort_unstable();
        assert_eq!(
            found
                .iter()
                .map(|entry| entry.file_name().into_string().unwrap())
                .collect::<Vec<_>>(),
            known
        );
        let table = fs::read_to_string(folder.join("README.md")).unwrap();
        for example in ALL {
            for file in ["README.md", "pod.yaml", "expected.txt"] {
                assert!(
                    example.folder().join(file).is_file(),
                    "{} has no {file}",
                    example.name
                );
            }
            assert!(
                table.contains(&format!("({}/)", example.name)),
                "{} is not in the table",
                example.name
            );
        }
    }

    #[test]
    fn every_example_pod_has_its_own_image_and_name() {
        for example in ALL {
            let pod = fs::read_to_string(example.pod()).unwrap();
            for line in [
                format!("image: {REGISTRY}/{}", example.repository()),
                format!("name: {}", example.name),
                "runtimeClassName: wasmedge".into(),
            ] {
                assert!(
                    pod.contains(&line),
                    "{} lacks {line:?}",
                    example.pod().display()
                );
            }
        }
    }
}
