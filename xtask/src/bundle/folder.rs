//! Filling the bundle's folder file by file, each atomically, and its manifest. The manifest is
//! written last, after the checks: a folder with a manifest has passed them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use testbed::cache;

use super::executables::Executables;
use super::libraries::{Engine, Libraries};
use super::{ADMIN, HOST, LAUNCHER, WASMEDGE_COMPILE, WASMTIME_COMPILE};

/// The manifest's path in the bundle.
pub(super) const MANIFEST: &str = "share/manifest.json";

/// A bundle's description of itself.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// Version of the runtime.
    pub(super) version: String,
    pub(super) architecture: String,
    pub(super) engine: Engine,
    /// File name of the loader in `lib`.
    pub(super) loader: String,
    /// Whether the launcher reads runtime options from a file, for the installer.
    #[serde(default)]
    pub(super) options_file: bool,
    /// The Debian suite of the libraries.
    pub(super) suite: String,
    /// The Debian packages that the libraries are from.
    pub(super) packages: Vec<testbed::apt::Package>,
    /// SHA-256 of every file but this one, by its path in the bundle; `-> target` for a link.
    pub(super) files: BTreeMap<String, String>,
}

/// The intended content of a bundle: its manifest, and the source of each file.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) manifest: Manifest,
    sources: BTreeMap<String, PathBuf>,
}

/// The state of a folder compared with its intended content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It has that content already, and passed its checks.
    Checked,
    /// It was filled just now, and has no manifest yet.
    Filled,
}

impl Content {
    /// Returns the content of a bundle of these parts.
    pub(super) fn of(
        version: &str,
        libraries: &Libraries,
        executables: &Executables,
    ) -> Result<Self> {
        let (mut files, mut sources) = (BTreeMap::new(), BTreeMap::new());
        for (path, what) in &libraries.record.files {
            let name = path
                .strip_prefix("licenses/")
                .map_or_else(|| path.clone(), |rest| format!("share/licenses/{rest}"));
            sources.insert(name.clone(), libraries.root.join(path));
            files.insert(name, what.clone());
        }
        for (name, file) in [
            (LAUNCHER, &executables.launcher),
            (ADMIN, &executables.admin),
            (HOST, &executables.host),
            (WASMEDGE_COMPILE, &executables.wasmedge_compile),
            (WASMTIME_COMPILE, &executables.wasmtime_compile),
        ] {
            let name = format!("bin/{name}");
            files.insert(name.clone(), cache::sha256_of_file(file)?);
            sources.insert(name, file.clone());
        }
        let record = &libraries.record;
        let manifest = Manifest {
            version: version.to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            engine: record.engine.clone(),
            loader: record.loader.clone(),
            options_file: true,
            suite: record.suite.clone(),
            packages: record.packages.clone(),
            files,
        };
        Ok(Self { manifest, sources })
    }

    /// Makes `root` have exactly this content, file by file.
    pub(super) fn fill(&self, root: &Path) -> Result<State> {
        let manifest = root.join(MANIFEST);
        let former: Option<Manifest> = fs::read(&manifest)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if former.as_ref() == Some(&self.manifest)
            && self
                .manifest
                .files
                .keys()
                .all(|name| root.join(name).symlink_metadata().is_ok())
        {
            return Ok(State::Checked);
        }
        if former.is_some() {
            fs::remove_file(&manifest).with_context(|| format!("remove {}", manifest.display()))?;
        }
        let known = |name: &String, what: &String| {
            former
                .as_ref()
                .is_some_and(|former| former.files.get(name) == Some(what))
                && root.join(name).symlink_metadata().is_ok()
        };
        for (name, what) in &self.manifest.files {
            if !known(name, what) {
                place(
                    &self.sources[name],
                    what.strip_prefix("-> "),
                    &root.join(name),
                )?;
            }
        }
        for name in former
            .iter()
            .flat_map(|former| former.files.keys())
            .filter(|name| !self.manifest.files.contains_key(*name))
        {
            fs::remove_file(root.join(name)).with_context(|| {
                format!("remove {name} of an earlier bundle from {}", root.display())
            })?;
        }
        Ok(State::Filled)
    }

    /// Records that `root` passed its checks.
    pub(super) fn seal(&self, root: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.manifest).context("write the manifest")?;
        let draft = root.join("share/.manifest.json");
        fs::write(&draft, text).with_context(|| format!("write {}", draft.display()))?;
        fs::rename(&draft, root.join(MANIFEST))
            .with_context(|| format!("rename {}", draft.display()))
    }
}

/// Puts a copy of `source`, or a link to `target`, at `place` atomically.
fn place(source: &Path, target: Option<&str>, place: &Path) -> Result<()> {
    let folder = place
        .parent()
        .with_context(|| format!("{} is not in a folder", place.display()))?;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let draft = folder.join(format!(".draft-{}", std::process::id()));
    if let Some(target) = target {
        symlink(target, &draft).with_context(|| format!("link {} to {target}", place.display()))?;
    } else {
        // A copy, not a hard link: changes to a bundle must not reach the cache. The mode is copied
        // too.
        fs::copy(source, &draft)
            .with_context(|| format!("copy {} to {}", source.display(), draft.display()))?;
    }
    fs::rename(&draft, place)
        .with_context(|| format!("rename {} to {}", draft.display(), place.display()))
}
