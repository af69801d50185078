//! The Go toolchain, and programs built from pinned Go modules.
//!
//! * [`toolchain`]: the machine's Go if it is new enough, otherwise one fetched into the cache.
//! * [`modules`]: the programs that this project builds, and their versions.
//!
//! A program is built from a generated module that requires exactly the program's module: `go
//! install` refuses Kubernetes, as its staging modules exist only by way of replacements, and one
//! way serves all.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::cache::{self, Cache, Key};
use crate::command::Run;
use crate::progress;
use crate::requirements::{self, Need};
use crate::versions::Versions;

pub mod modules;
pub mod toolchain;

pub use toolchain::Toolchain;

/// Timeout of a build. The longest one (all of Kubernetes, nothing cached) takes a quarter of an
/// hour on two slow cores.
const BUILD_TIMEOUT: Duration = Duration::from_mins(75);

/// Build requirements of cgo: a C compiler and the C library's headers.
const CGO_NEEDS: &[Need] = &[
    Need {
        package: "gcc",
        provides: "gcc",
    },
    Need {
        package: "libc6-dev",
        provides: "/usr/include/stdlib.h",
    },
];

/// Programs of one Go module at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its name in messages.
    pub name: &'static str,
    /// The module path.
    pub module: &'static str,
    /// Its version, without the leading `v`.
    pub version: String,
    /// Its programs.
    pub programs: Vec<Program>,
    /// Variables that the linker sets, as `importpath.name=value`.
    pub stamps: Vec<String>,
    /// Whether the build uses cgo.
    pub cgo: Cgo,
    /// How its requirements are resolved.
    pub requirements: Requirements,
}

/// A main package and the name of its executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Import path of the main package.
    pub package: String,
    /// File name of the executable.
    pub file: &'static str,
}

/// Whether a build uses cgo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgo {
    /// It does: the program is linked to the C library and resolves names through it.
    Enabled,
    /// It does not: the program is static.
    Disabled,
}

/// Resolution of a module's own requirements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirements {
    /// As in its go.mod.
    AsWritten,
    /// Kubernetes requires its staging modules at v0.0.0 and replaces them by folders of its own
    /// repository, which the module proxy does not carry. Each is also published as
    /// `v0.<minor>.<patch>`; these versions replace the folders.
    KubernetesStaging,
}

/// Returns the folder with the programs of `module`, which are built unless they are cached.
///
/// # Errors
/// Fails if no Go toolchain can be found or fetched, or the module cannot be fetched or built.
pub fn build(cache: &Cache, module: &Module) -> Result<PathBuf> {
    let go = Toolchain::find(cache, &Versions::pinned()?.go)?;
    cache.entry("programs", &key(module, &go), |place| {
        if module.cgo == Cgo::Enabled {
            requirements::install(CGO_NEEDS)?;
        }
        // One build at a time: each uses every core, and the linker of Kubernetes over a gigabyte.
        let _turn = cache::lock(&cache.managed("go")?.join(".build.lock"))?;
        progress::step(
            format_args!(
                "built {} {} with Go {}",
                module.name, module.version, go.version
            ),
            || {
                Build {
                    go: &go,
                    cache,
                    module,
                }
                .run(place)
                .with_context(|| format!("build {} {}", module.name, module.version))
            },
        )
    })
}

/// Returns the folder with `containerd`, `ctr` and `containerd-shim-runc-v2` of containerd
/// `version`.
///
/// # Errors
/// Fails as [`build`] does.
pub fn containerd(cache: &Cache, version: &str) -> Result<PathBuf> {
    build(cache, &modules::containerd(version))
}

/// Returns the folder with the daemon of containerd `version` alone.
///
/// # Errors
/// Fails as [`build`] does.
pub fn containerd_daemon(cache: &Cache, version: &str) -> Result<PathBuf> {
    Ok(build(cache, &modules::containerd_daemon(version))?.join("containerd"))
}

fn key(module: &Module, go: &Toolchain) -> Key {
    Key::of([
        format!("{module:?}"),
        go.version.clone(),
        std::env::consts::ARCH.to_owned(),
    ])
}

/// The build of one module.
struct Build<'a> {
    go: &'a Toolchain,
    cache: &'a Cache,
    module: &'a Module,
}

impl Build<'_> {
    fn run(&self, place: &Path) -> Result<()> {
        let Module {
            module, version, ..
        } = self.module;
        let work = tempfile::Builder::new()
            .prefix(".module-")
            .tempdir_in(self.cache.managed("go")?)
            .context("make a folder for the build's go.mod")?;
        let folder = work.path();
        write(&folder.join("go.mod"), &self.empty_module())?;
        if self.module.requirements == Requirements::KubernetesStaging {
            let replaced = self.with_staging(folder)?;
            write(&folder.join("go.mod"), &replaced)?;
        }
        write(&folder.join("programs.go"), &self.imports())?;
        let get = format!("{module}@v{version}");
        if self.module.requirements == Requirements::AsWritten {
            self.go_run(folder)?.args(["get", &get]).done()?;
        }
        self.go_run(folder)?.args(["mod", "tidy"]).done()?;
        let packages = self.module.programs.iter().map(|program| &program.package);
        self.go_run(folder)?
            .args(["build", "-ldflags", &self.linker_flags(), "-o"])
            .arg(format!("{}/", place.display()))
            .args(packages)
            .deadline(BUILD_TIMEOUT)
            .done()?;
        for program in &self.module.programs {
            let built = place.join(default_file(&program.package));
            let wanted = place.join(program.file);
            fs::rename(&built, &wanted)
                .with_context(|| format!("rename {} to {}", built.display(), wanted.display()))?;
        }
        Ok(())
    }

    fn go_run(&self, folder: &Path) -> Result<Run> {
        let cgo = match self.module.cgo {
            Cgo::Enabled => "1",
            Cgo::Disabled => "0",
        };
        Ok(self
            .go
            .run(self.cache)?
            .current_dir(folder)
            .env("CGO_ENABLED", cgo))
    }

    fn empty_module(&self) -> String {
        format!("module {}\n\ngo {}\n", self.module.name, self.go.language())
    }

    /// Returns a source file that no build includes; it makes `go mod tidy` keep the programs'
    /// imports.
    fn imports(&self) -> String {
        let mut text = "//go:build never\n\npackage programs\n\nimport (\n".to_owned();
        for program in &self.module.programs {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "\t_ \"{}\"", program.package);
        }
        text + ")\n"
    }

    fn with_staging(&self, folder: &Path) -> Result<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Downloaded {
            go_mod: PathBuf,
        }
        let Module {
            module, version, ..
        } = self.module;
        let answer = self
            .go_run(folder)?
            .args(["mod", "download", "-json", &format!("{module}@v{version}")])
            .text()?;
        let Downloaded { go_mod } = serde_json::from_str(&answer)
            .with_context(|| format!("read go's output about {module}"))?;
        let upstream =
            fs::read_to_string(&go_mod).with_context(|| format!("read {}", go_mod.display()))?;
        Ok(format!(
            "{}\nrequire {module} v{version}\n\n{}",
            self.empty_module(),
            staging_replacements(&upstream, version)?
        ))
    }

    fn linker_flags(&self) -> String {
        let mut flags = "-s -w".to_owned();
        for stamp in &self.module.stamps {
            let _ = write!(flags, " -X {stamp}");
        }
        flags
    }
}

/// Returns the `replace` block that gives each module required at v0.0.0 its published version.
fn staging_replacements(go_mod: &str, version: &str) -> Result<String> {
    let staging = version
        .strip_prefix("1.")
        .with_context(|| format!("Kubernetes {version} is not a 1.x version"))?;
    let mut block = "replace (\n".to_owned();
    for line in go_mod.lines() {
        let mut words = line
            .split_whitespace()
            .skip_while(|word| *word == "require");
        if let (Some(path), Some("v0.0.0")) = (words.next(), words.next()) {
            let _ = writeln!(block, "\t{path} => {path} v0.{staging}");
        }
    }
    Ok(block + ")\n")
}

/// Returns the file name that `go build` gives a main package: its last element, or the one before
/// a version suffix.
fn default_file(package: &str) -> &str {
    let mut elements = package.rsplit('/');
    let last = elements.next().unwrap_or(package);
    let is_version = last
        .strip_prefix('v')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
    if is_version {
        elements.next().unwrap_or(last)
    } else {
        last
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_staging_modules_are_replaced_by_published_versions() {
        let go_mod = "module k8s.io/kubernetes\n\nrequire (\n\tk8s.io/api v0.0.0\n\tk8s.io/klog/v2 \
                      v2.140.0\n)\nrequire k8s.io/kms v0.0.0\n";
        let block = staging_replacements(go_mod, "1.37.2").unwrap();
        assert_eq!(
            block,
            "replace (\n\tk8s.io/api => k8s.io/api v0.37.2\n\tk8s.io/kms => k8s.io/kms v0.37.2\n)\n"
        );
    }

    #[test]
    fn version_suffix_is_not_a_file_name() {
        assert_eq!(default_file("go.etcd.io/etcd/server/v3"), "server");
        assert_eq!(default_file("k8s.io/kubernetes/cmd/kubeadm"), "kubeadm");
        assert_eq!(default_file("example.test/vet"), "vet");
    }

    #[test]
    fn version_is_part_of_the_key() {
        let go = Toolchain::at(PathBuf::from("/go/bin/go"), "1.26.6");
        assert_ne!(
            key(&modules::containerd("2.4.2"), &go),
            key(&modules::containerd("2.4.3"), &go)
        );
    }
}
