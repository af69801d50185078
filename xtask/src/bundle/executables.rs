//! The bundle's executables: the static launcher and administrator's command; the host and the
//! compile helper's two programs, linked with the bundle's libraries.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use testbed::command::Run;

use super::libraries::{self, Libraries};
use super::{ADMIN, HOST, LAUNCHER, WASMEDGE_COMPILE, WASMTIME_COMPILE, elf};
use crate::setup;

/// The executables, stripped of debug information.
#[derive(Debug)]
pub(super) struct Executables {
    pub(super) launcher: PathBuf,
    pub(super) admin: PathBuf,
    pub(super) host: PathBuf,
    pub(super) wasmedge_compile: PathBuf,
    pub(super) wasmtime_compile: PathBuf,
    /// cargo's target folder.
    pub(super) target: PathBuf,
}

/// Builds them.
pub(super) fn build(libraries: &Libraries) -> Result<Executables> {
    let launcher = fully_static("containerd-shim-wasmedge-v1", LAUNCHER)?;
    let admin = fully_static("artifact-admin", ADMIN)?;
    build_dynamic()?;
    let made_on = |name: &str, folder: &Path| {
        let made = setup::made(name)?;
        libraries::must_hold_all_of(folder, &made)?;
        Ok::<_, anyhow::Error>(made)
    };
    let host = made_on(HOST, &libraries.run())?;
    let wasmedge_compile = made_on(WASMEDGE_COMPILE, &libraries.compile())?;
    let wasmtime_compile = made_on(WASMTIME_COMPILE, &libraries.run())?;
    let target = host
        .ancestors()
        .nth(2)
        .with_context(|| format!("{} is not in a target folder", host.display()))?
        .to_owned();
    Ok(Executables {
        launcher,
        admin,
        host: stripped(&host)?,
        wasmedge_compile: stripped(&wasmedge_compile)?,
        wasmtime_compile: stripped(&wasmtime_compile)?,
        target,
    })
}

/// Builds the host and the helper's programs.
///
/// For a release each package by itself: built together, both would have the union of their
/// features, and the host a compiler. Otherwise in one call for the workspace, which recompiles the
/// least ([`setup::executable`]).
fn build_dynamic() -> Result<()> {
    let helper = [WASMEDGE_COMPILE, WASMTIME_COMPILE];
    let call = |packages: &[&str], programs: &[&str]| {
        setup::cargo()
            .arg("build")
            .args(packages)
            .args(setup::as_built()?)
            .args(programs.iter().flat_map(|name| ["--bin", name]))
            .done()
    };
    if setup::is_release()? {
        call(&["--package", "wasmedge-host"], &[HOST])?;
        return call(&["--package", "compile-helper"], &helper);
    }
    call(&["--workspace"], &[HOST, helper[0], helper[1]])
}

/// Builds the program `name` of `package` so that it needs only a kernel, and strips its debug
/// information.
pub(crate) fn fully_static(package: &str, name: &str) -> Result<PathBuf> {
    // For this program alone: all others are linked as usual, so the flag is not a setting of the
    // workspace.
    let words = [
        "--package",
        package,
        "--bin",
        name,
        "--",
        "-C",
        "target-feature=+crt-static",
    ];
    setup::cargo()
        .arg("rustc")
        .args(setup::as_built()?)
        .args(words)
        .done()?;
    let made = setup::made(name)?;
    let facts = elf::read(&made)?;
    ensure!(
        facts.interpreter.is_none() && facts.needed.is_empty(),
        "{name} must run where there is no C library, but it asks for {:?} and {:?}",
        facts.interpreter,
        facts.needed
    );
    stripped(&made)
}

/// Returns a copy without debug information beside `program`, remade if their times differ.
/// Function names stay, for backtraces.
fn stripped(program: &Path) -> Result<PathBuf> {
    let copy = program.with_extension("stripped");
    let modified = |path: &Path| path.metadata().and_then(|facts| facts.modified());
    let built = modified(program).with_context(|| format!("look at {}", program.display()))?;
    if modified(&copy).is_ok_and(|made| made == built) {
        return Ok(copy);
    }
    let draft = program.with_extension(format!("stripped-{}", std::process::id()));
    Run::new("strip")
        .arg("--strip-debug")
        .arg("-o")
        .arg(&draft)
        .arg(program)
        .done()?;
    // The copy has the time of its original: cargo may bring an older build back.
    File::options()
        .write(true)
        .open(&draft)
        .and_then(|file| file.set_modified(built))
        .with_context(|| format!("date {}", draft.display()))?;
    fs::rename(&draft, &copy)
        .with_context(|| format!("rename {} to {}", draft.display(), copy.display()))?;
    Ok(copy)
}
