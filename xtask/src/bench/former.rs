//! The shim that this repository had before it had a node host, built from its last commit: once, and then reused.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use testbed::cache::{self, Cache};
use testbed::command::Run;
use testbed::progress;

use crate::bundle::Bundle;
use crate::setup;

/// Asks tests for what is built for minutes where it was not built yet.
const WISH: &str = "WASMEDGE_FORMER";
/// The last commit with one host process per pod.
const COMMIT: &str = "f801984";
/// The version that it says it is.
const VERSION: &str = "0.1.0";

/// What makes cargo's profile for development one for release.
const OPTIMIZED: &str = r#"
[profile.dev]
opt-level = 3
debug-assertions = false
overflow-checks = false

[profile.dev.package."*"]
opt-level = 3
"#;

/// Whether there is one.
#[derive(Debug)]
pub(crate) enum Former {
    /// Its bundle.
    Built(Bundle),
    /// Why there is none.
    Unknown(String),
}

/// What it is, for a report.
pub(super) fn description() -> String {
    format!("commit {COMMIT}")
}

/// The same for tests. It is built only where a variable asks for that: it takes minutes.
pub(crate) fn for_tests(cache: &Cache) -> Result<Former> {
    let is_built = place(cache)?.1.is_dir();
    if !is_built && std::env::var_os(WISH).is_none_or(|value| value != "1") {
        return Ok(Former::Unknown(format!("the runtime of commit {COMMIT} is not in the cache, and is built for minutes: set {WISH}=1")));
    }
    build(cache)
}

/// Builds it where that has not been done yet. A build that was interrupted goes on where it stopped.
pub(super) fn build(cache: &Cache) -> Result<Former> {
    let asked = Run::new("git").args(["cat-file", "-e", &format!("{COMMIT}^{{commit}}")]).current_dir(setup::repository()).output()?;
    if !asked.status.success() {
        return Ok(Former::Unknown(format!("its commit {COMMIT} is not in this clone: fetch the whole history")));
    }
    let (folder, place) = place(cache)?;
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let _lock = cache::lock(&folder.join(".lock"))?;
    if !place.is_dir() {
        let profile = setup::profile()?;
        progress::step(format_args!("built the former shim of commit {COMMIT}"), || make(&folder, &place, &profile))?;
    }
    Ok(Former::Built(Bundle { root: place.join("wasmedge-runtime").join(VERSION), version: VERSION.to_owned() }))
}

/// The folder in the cache for one of this program's profile, and what of it is there once it was built.
fn place(cache: &Cache) -> Result<(PathBuf, PathBuf)> {
    let folder = cache.managed("former")?.join(format!("{COMMIT}-{}", setup::profile()?));
    let place = folder.join("bundle");
    Ok((folder, place))
}

fn make(folder: &Path, place: &Path, profile: &str) -> Result<()> {
    let (source, target, draft) = (folder.join("source"), folder.join("target"), folder.join("draft"));
    fs::create_dir_all(&source).with_context(|| format!("make {}", source.display()))?;
    let archive = folder.join("source.tar");
    let git = Run::new("git").current_dir(setup::repository());
    git.args(["archive", "--format=tar", "--output"]).arg(&archive).arg(COMMIT).done()?;
    Run::new("tar").args(["--extract", "--file"]).arg(&archive).arg("--directory").arg(&source).done()?;
    if profile == "release" {
        // Its own xtask builds with cargo's profile for development alone, so that becomes what is asked for.
        let config = source.join(".cargo/config.toml");
        let text = fs::read_to_string(&config).with_context(|| format!("read {}", config.display()))?;
        fs::write(&config, text + OPTIMIZED).with_context(|| format!("write {}", config.display()))?;
    }
    // With a target folder of its own it takes nothing from this checkout's, and leaves nothing there.
    let run = setup::cargo().current_dir(&source).env("CARGO_TARGET_DIR", &target).args(["run", "--quiet", "--package", "xtask"]);
    run.args(["--", "bundle", "--output"]).arg(&draft).done()?;
    fs::rename(&draft, place).with_context(|| format!("rename {} to {}", draft.display(), place.display()))?;
    // The bundle needs nothing of what it was made of, which is some gigabytes.
    for rest in [source, target] {
        fs::remove_dir_all(&rest).with_context(|| format!("remove {}", rest.display()))?;
    }
    fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))
}
