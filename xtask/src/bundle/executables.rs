//! The bundle's executables: the static launcher, and the host, linked with the bundle's libraries.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use testbed::command::Run;

use super::libraries::{self, Libraries};
use super::{HOST, LAUNCHER, elf};
use crate::setup;

/// The executables, stripped of debug information.
#[derive(Debug)]
pub(super) struct Executables {
    pub(super) launcher: PathBuf,
    pub(super) host: PathBuf,
    /// cargo's target folder.
    pub(super) target: PathBuf,
}

/// Builds both.
pub(super) fn build(libraries: &Libraries) -> Result<Executables> {
    let launcher = fully_static("containerd-shim-wasmedge-v1", LAUNCHER)?;
    let host = setup::executable(HOST)?;
    libraries::must_hold_all_of(&libraries.run(), &host)?;
    let target = host
        .ancestors()
        .nth(2)
        .with_context(|| format!("{} is not in a target folder", host.display()))?
        .to_owned();
    Ok(Executables {
        launcher,
        host: stripped(&host)?,
        target,
    })
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
