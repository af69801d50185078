//! Rust guests: compiled with the standard library that rustup installed, or with Debian's compiler
//! and a library built from its sources. Those two must have the same version, so both come from
//! one suite, which has no sources for rustup's compiler.
//!
//! The files in rustc's own folder decide between the two before anything is built.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{FORMAT, check};
use crate::apt::{self, Dependencies, Extracted, Request};
use crate::cache::{Cache, Key};
use crate::command::Run;
use crate::progress;
use crate::requirements::{self, Need};
use crate::versions::Versions;

const TARGET: &str = "wasm32-wasip1";

/// Libraries of Debian's LLVM that not every system has.
const LLVM_NEEDS: &[Need] = &[
    Need {
        package: "libedit2",
        provides: "/usr/lib/*/libedit.so.2",
    },
    Need {
        package: "libxml2",
        provides: "/usr/lib/*/libxml2.so.2",
    },
    Need {
        package: "libz3-4",
        provides: "/usr/lib/*/libz3.so.4",
    },
];

/// Variables of the cargo that runs this program. They are meant for its own build and would change
/// a guest's.
const OURS: &[&str] = &[
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
];

/// Compiles the package in `folder`, which must have one binary, a `Cargo.lock` and a workspace of
/// its own.
///
/// # Errors
/// Fails if it has no standard library, or does not compile.
pub fn guest(cache: &Cache, folder: &Path) -> Result<PathBuf> {
    let rustc = Rustc::of(folder)?;
    let mut inputs = vec![
        FORMAT.as_bytes().to_vec(),
        rustc.version.clone().into_bytes(),
    ];
    sources(folder, folder, &mut inputs)?;
    let library = StandardLibrary::find(cache, &rustc)?;
    inputs.push(library.identity().into_bytes());
    let place = cache.entry("guests", &Key::of(inputs), |draft| {
        progress::print_line(format_args!("  Rust guests use {library}"));
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        progress::step(format_args!("compiled {name}"), || {
            let built = build(cache, folder, &library)?;
            let out = draft.join(GUEST);
            fs::copy(&built, &out)
                .with_context(|| format!("copy {} to {}", built.display(), out.display()))?;
            check(&out)
        })
        .with_context(|| format!("compile {}", folder.display()))
    })?;
    Ok(place.join(GUEST))
}

const GUEST: &str = "guest.wasm";

/// The compiler that cargo uses in a folder.
struct Rustc {
    sysroot: PathBuf,
    version: String,
}

impl Rustc {
    fn of(folder: &Path) -> Result<Self> {
        let ask = |arguments: &[&str]| Run::new("rustc").args(arguments).current_dir(folder).text();
        Ok(Self {
            sysroot: PathBuf::from(ask(&["--print", "sysroot"])?),
            version: ask(&["-vV"])?,
        })
    }

    fn host(&self) -> Result<&str> {
        self.version
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .context("find the host in what `rustc -vV` prints")
    }
}

/// The source of a guest's standard library.
enum StandardLibrary {
    /// It is installed beside rustc's own.
    Installed,
    /// It is built with the guest, all from Debian; only the linker is rustc's own.
    Built { debian: Extracted, linker: PathBuf },
}

impl StandardLibrary {
    fn find(cache: &Cache, rustc: &Rustc) -> Result<Self> {
        let rustlib = rustc.sysroot.join("lib/rustlib");
        if rustlib.join(TARGET).join("lib").is_dir() {
            return Ok(Self::Installed);
        }
        let linker = rustlib.join(rustc.host()?).join("bin/rust-lld");
        ensure!(
            linker.is_file(),
            "rustc has neither a standard library for {TARGET} nor a linker at {}: run `rustup \
             target add {TARGET}`",
            linker.display()
        );
        requirements::install(LLVM_NEEDS)?;
        let pinned = Versions::pinned()?.guests;
        let packages: Vec<&str> = pinned.rust_packages.iter().map(String::as_str).collect();
        let request = Request {
            suite: &pinned.rust_suite,
            packages: &packages,
            dependencies: Dependencies::Leave,
        };
        Ok(Self::Built {
            debian: apt::fetch(cache, &request)?,
            linker,
        })
    }

    fn identity(&self) -> String {
        match self {
            Self::Installed => "installed".to_owned(),
            Self::Built { debian, .. } => format!("{:?}", debian.packages),
        }
    }

    /// Adds the arguments and variables that `cargo build` needs for it.
    fn prepare(&self, run: Run) -> Result<Run> {
        let Self::Built { debian, linker } = self else {
            return Ok(run);
        };
        let usr = debian.root.join("usr");
        let libc = usr.join("lib/wasm32-wasi");
        let flags = [
            "-Clink-self-contained=no".to_owned(),
            format!("-Clinker={}", linker.display()),
            format!("-Clink-arg={}", libc.join("crt1-command.o").display()),
            format!("-Clink-arg=-L{}", libc.display()),
            "-Clink-arg=-lc".to_owned(),
        ];
        Ok(run
            .env("RUSTC", usr.join("bin/rustc"))
            .env("LD_LIBRARY_PATH", compiler_libraries(&usr)?)
            // Building a standard library is unstable in cargo; this variable enables it in a
            // stable one.
            .env("RUSTC_BOOTSTRAP", "1")
            .env(
                "__CARGO_TESTS_ONLY_SRC_ROOT",
                library_sources(&debian.root)?,
            )
            // Encoded, so that a cache folder with a space in its path stays one argument.
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .arg("-Zbuild-std=std,panic_abort"))
    }
}

impl fmt::Display for StandardLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installed => write!(f, "the installed standard library for {TARGET}"),
            Self::Built { debian, .. } => {
                let compiler = debian
                    .packages
                    .iter()
                    .find(|package| package.name.starts_with("rustc"));
                let version = compiler.map_or("of no version", |package| package.version.as_str());
                write!(
                    f,
                    "Debian's Rust {version} and a standard library built from its sources \
                     (`rustup target add {TARGET}` spares that)"
                )
            }
        }
    }
}

/// Returns the folder with the libraries of the compiler below `usr`.
fn compiler_libraries(usr: &Path) -> Result<PathBuf> {
    let entries =
        fs::read_dir(usr.join("lib")).with_context(|| format!("read {}/lib", usr.display()))?;
    let has_driver = |folder: &PathBuf| {
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        files.into_iter().any(|file| {
            file.file_name()
                .to_string_lossy()
                .starts_with("librustc_driver")
        })
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(has_driver)
        .with_context(|| format!("find librustc_driver below {}/lib", usr.display()))
}

/// Returns the folder `library` in unpacked Rust sources; its path contains the version.
fn library_sources(root: &Path) -> Result<PathBuf> {
    let sources = root.join("usr/src");
    let entries = fs::read_dir(&sources).with_context(|| format!("read {}", sources.display()))?;
    let found = entries
        .flatten()
        .map(|entry| entry.path().join("library"))
        .find(|library| library.join("Cargo.lock").is_file());
    found.with_context(|| format!("find Rust's standard library below {}", sources.display()))
}

/// Builds the package and returns the one `.wasm` file that cargo reports.
fn build(cache: &Cache, folder: &Path, library: &StandardLibrary) -> Result<PathBuf> {
    let target = cache.managed("cargo-guests")?;
    let run = OURS.iter().fold(Run::new("cargo"), Run::without_env);
    let run = run.current_dir(folder).args([
        "build",
        "--release",
        "--locked",
        "--target",
        TARGET,
        "--message-format=json-render-diagnostics",
    ]);
    let messages = library
        .prepare(run.arg("--target-dir").arg(target))?
        .text()?;
    let mut guests = Vec::new();
    for message in messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
    {
        if message["reason"] != "compiler-artifact" || message["target"]["kind"][0] != "bin" {
            continue;
        }
        let files = message["filenames"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        guests.extend(
            files
                .map(PathBuf::from)
                .filter(|file| file.extension().is_some_and(|kind| kind == "wasm")),
        );
    }
    match guests.as_slice() {
        [guest] => Ok(guest.clone()),
        several => bail!("the package makes {} binaries, expected one", several.len()),
    }
}

/// Adds path and content of every source file below `folder` to `inputs`, in a fixed order.
fn sources(root: &Path, folder: &Path, inputs: &mut Vec<Vec<u8>>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut paths: Vec<_> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.sort();
    for path in paths {
        let inside = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            // Both may exist if the package was built by hand.
            if !matches!(inside.as_str(), "target" | ".git") {
                sources(root, &path, inputs)?;
            }
        } else if path
            .extension()
            .is_some_and(|kind| matches!(kind.to_str(), Some("rs" | "toml" | "lock")))
        {
            inputs.push(inside.into_bytes());
            inputs.push(fs::read(&path).with_context(|| format!("read {}", path.display()))?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_guest_is_compiled_again_only_if_sources_change() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("src")).unwrap();
        fs::create_dir_all(root.join("target")).unwrap();
        fs::write(root.join("Cargo.toml"), "1").unwrap();
        fs::write(root.join("src/main.rs"), "2").unwrap();
        let inputs = || {
            let mut inputs = Vec::new();
            sources(root, root, &mut inputs).unwrap();
            inputs
        };
        let before = inputs();
        fs::write(root.join("README.md"), "3").unwrap();
        fs::write(root.join("target/x.rs"), "4").unwrap();
        assert_eq!(before, inputs());
        fs::write(root.join("src/main.rs"), "5").unwrap();
        assert_ne!(before, inputs());
    }
}
