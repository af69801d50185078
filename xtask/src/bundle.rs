//! `cargo xtask bundle`: makes the relocatable runtime folder, `wasmedge-runtime/<version>`.
//!
//! | folder | contents |
//! |---|---|
//! | `bin` | the launcher that containerd starts and the administrator's command (both static); the host and the compile helpers, which are started through `lib`'s loader |
//! | `lib` | loader, C library, engine, and the stand-in for libLLVM: everything to run guests |
//! | `compile` | the real libLLVM and its dependencies, for a process that compiles guests; links to `lib` for the rest |
//! | `share` | manifest and licences |
//!
//! Nothing in it depends on its path, and it needs only the kernel of a node. Reasons:
//! docs/decisions/0001-runtime-bundle.md.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use testbed::apt;
use testbed::cache::{self, Cache};
use testbed::command::Run;
use testbed::progress;

use crate::setup;

pub(crate) mod libraries;
mod packages;
mod elf;
mod stand_in;
mod probe;
pub(crate) mod executables;
mod folder;

/// The file name of the launcher.
pub(crate) const LAUNCHER: &str = "containerd-shim-wasmedge-v1";
/// The file name of the administrator's command.
const ADMIN: &str = "artifacts";
/// The file name of the host.
const HOST: &str = "wasmedge-host";
/// The file name of the compile helper with LLVM.
const WASMEDGE_COMPILE: &str = "wasmedge-compile";
/// The file name of the compile helper with Cranelift.
const WASMTIME_COMPILE: &str = "wasmtime-compile";
/// The runtime's version is the workspace's.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Makes the relocatable runtime folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also put a copy at `DIR/wasmedge-runtime/VERSION`
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Print the manifest: packages, versions and the SHA-256 of every file
    #[arg(long)]
    print: bool,
}

/// A runtime folder that passed its checks.
#[derive(Debug, Clone)]
pub(crate) struct Bundle {
    /// The folder; its name is the version.
    pub(crate) root: PathBuf,
    /// The runtime's version.
    pub(crate) version: String,
}

impl Bundle {
    /// Returns the path of the launcher.
    pub(crate) fn launcher(&self) -> PathBuf {
        self.root.join("bin").join(LAUNCHER)
    }

    /// Returns the Debian packages of its libraries.
    pub(crate) fn packages(&self) -> Result<Packages> {
        let manifest = self.root.join(folder::MANIFEST);
        let text = fs::read(&manifest).with_context(|| format!("read {}", manifest.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("read {}", manifest.display()))
    }
}

/// Returns whether the folder `root` is a runtime bundle: a checked one has a manifest.
pub(crate) fn has_manifest(root: &Path) -> bool {
    root.join(folder::MANIFEST).is_file()
}

/// The origin of the libraries in a bundle's manifest.
#[derive(Debug, Deserialize)]
pub(crate) struct Packages {
    /// The Debian suite.
    pub(crate) suite: String,
    /// The packages.
    pub(crate) packages: Vec<apt::Package>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let cache = Cache::open()?;
    let mut bundle = build(&cache)?;
    if let Some(output) = args.output {
        bundle.root = copy_to(&bundle, &output)?;
    }
    for part in ["bin", "lib", "compile", "share"] {
        let size = size(&bundle.root.join(part))?;
        progress::print_line(format_args!("  {part:8} {:6.1} MB", megabytes(size)));
    }
    progress::print_line(format_args!("{} {}", bundle.version, bundle.root.display()));
    progress::print_line(format_args!(
        "  containerd's runtime: {}",
        bundle.launcher().display()
    ));
    if args.print {
        let manifest = bundle.root.join(folder::MANIFEST);
        progress::print_line(
            fs::read_to_string(&manifest)
                .with_context(|| format!("read {}", manifest.display()))?,
        );
    }
    Ok(())
}

/// Builds missing or outdated parts, checks the bundle, and returns its folder, always the same one
/// in this checkout.
pub(crate) fn build(cache: &Cache) -> Result<Bundle> {
    setup::prepare(cache)?;
    let libraries = libraries::assemble(cache)?;
    let executables = progress::step(
        "built the launcher, the command, the host and the compile helpers",
        || executables::build(&libraries),
    )?;
    let shelf = executables.target.join("wasmedge-runtime");
    fs::create_dir_all(&shelf).with_context(|| format!("make {}", shelf.display()))?;
    let _lock = cache::lock(&shelf.join(".lock"))?;
    let root = shelf.join(VERSION);
    let content = folder::Content::of(VERSION, &libraries, &executables)?;
    if content.fill(&root)? == folder::State::Filled {
        progress::step("checked the runtime bundle", || check(&root, &libraries))?;
        content.seal(&root)?;
    }
    Ok(Bundle {
        root,
        version: VERSION.to_owned(),
    })
}

/// Runs the bundle's executables in a root with only the bundle: no C library, no shell, no /proc.
fn check(root: &Path, libraries: &libraries::Libraries) -> Result<()> {
    let alone = |program: &str| Run::new("chroot").arg(root).arg(program);
    let printed = alone(&format!("/bin/{LAUNCHER}"))
        .arg("-v")
        .text()
        .context("the launcher does not run in an empty root")?;
    ensure!(
        printed.contains(VERSION),
        "the launcher prints the version {printed:?}, this is {VERSION}"
    );
    let printed = alone(&format!("/bin/{ADMIN}"))
        .arg("--version")
        .text()
        .context("the administrator's command does not run in an empty root")?;
    ensure!(
        printed.contains(VERSION),
        "the administrator's command prints the version {printed:?}, this is {VERSION}"
    );
    for (program, folders) in [
        (HOST, "/lib"),
        (WASMEDGE_COMPILE, "/compile:/lib"),
        (WASMTIME_COMPILE, "/lib"),
    ] {
        // `--list` binds every symbol of the program and of all its libraries, as a start does.
        let list = alone(&format!("/lib/{}", libraries.record.loader))
            .args(["--inhibit-cache", "--library-path", folders, "--list"])
            .arg(format!("/bin/{program}"))
            .env("LD_BIND_NOW", "1")
            .env("LD_WARN", "1")
            .text()
            .with_context(|| format!("{program} does not start on the bundle's {folders}"))?;
        let stray = list
            .lines()
            .find(|line| line.contains("not found") || line.contains("undefined symbol"));
        ensure!(
            stray.is_none(),
            "{program} does not start on the bundle's {folders}: {}",
            stray.unwrap_or_default()
        );
    }
    Ok(())
}

/// Copies the bundle into `output`; replaces only an earlier copy.
fn copy_to(bundle: &Bundle, output: &Path) -> Result<PathBuf> {
    let shelf = output.join("wasmedge-runtime");
    let place = shelf.join(&bundle.version);
    fs::create_dir_all(&shelf).with_context(|| format!("make {}", shelf.display()))?;
    if place.exists() {
        ensure!(
            place.join(folder::MANIFEST).exists(),
            "{} exists and is not a runtime bundle: remove it, or choose another folder",
            place.display()
        );
        fs::remove_dir_all(&place).with_context(|| format!("remove {}", place.display()))?;
    }
    Run::new("cp")
        .args(["-a", "--"])
        .arg(&bundle.root)
        .arg(&place)
        .done()?;
    Ok(place)
}

/// Returns the bytes of all files under `folder`.
fn size(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry.with_context(|| format!("list {}", folder.display()))?;
        let facts = entry
            .metadata()
            .with_context(|| format!("look at {}", entry.path().display()))?;
        sum += if facts.is_dir() {
            size(&entry.path())?
        } else {
            facts.len()
        };
    }
    Ok(sum)
}

/// Converts bytes to megabytes.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1000).unwrap_or(u32::MAX)) / 1000.0
}
