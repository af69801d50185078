//! The bundle's library folders, made from the packages alone: `lib` to run guests, `compile` to
//! compile them.
//!
//! A folder has exactly the files that the engine and libseccomp need, found by following each
//! library's needs down to the loader, each file under the name by which it is needed. A checked
//! folder is a cache entry.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use testbed::apt::Package;
use testbed::cache::{self, Cache, Key};
use testbed::progress;

use super::packages::{self, Packages};
use super::{elf, probe, stand_in};

/// Part of the cache key: raised when the folders' form changes.
const FORMAT: &str = "1";

/// The host's own library, beside the engine and the C library.
const SECCOMP: &str = "libseccomp.so.2";

/// The checked library folders, as a cache entry: never write into it.
#[derive(Debug)]
pub(crate) struct Libraries {
    /// The entry: `lib`, `compile` and `licenses`.
    pub(crate) root: PathBuf,
    /// Folder of the engine's C headers.
    pub(crate) headers: PathBuf,
    /// Its description.
    pub(super) record: Record,
}

/// The origin of the library folders, as in the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The Debian suite.
    pub(super) suite: String,
    /// The engine.
    pub(super) engine: Engine,
    /// File name of the loader in `lib`.
    pub(super) loader: String,
    /// Every package that a file may come from.
    pub(super) packages: Vec<Package>,
    /// SHA-256 of every file, by its path in the entry; `-> target` for a link.
    pub(super) files: BTreeMap<String, String>,
}

/// The engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Engine {
    /// The version that the library reports.
    pub(super) version: String,
    pub(super) soname: String,
    pub(super) build_id: String,
    /// The compiler library, for which `lib` has a stand-in.
    pub(super) compiler: String,
}

impl Libraries {
    /// Returns the folder for running guests.
    pub(crate) fn run(&self) -> PathBuf {
        self.root.join("lib")
    }

    /// Returns the folder for compiling guests.
    pub(crate) fn compile(&self) -> PathBuf {
        self.root.join("compile")
    }

    /// Returns the loader of [`Self::run`].
    pub(crate) fn loader(&self) -> PathBuf {
        self.run().join(&self.record.loader)
    }

    /// Returns the engine in [`Self::run`].
    pub(crate) fn engine(&self) -> PathBuf {
        self.run().join(&self.record.engine.soname)
    }
}

/// Returns the library folders for the pinned engine; makes them the first time.
pub(crate) fn assemble(cache: &Cache) -> Result<Libraries> {
    let packages = packages::fetch(cache)?;
    let record = serde_json::to_string(&packages.list).context("record the packages")?;
    let key = Key::of([FORMAT, stand_in::FORMAT, &packages.pinned.soname, &record]);
    let root = cache.entry("runtime-libraries", &key, |draft| {
        progress::step(
            format_args!(
                "made the runtime's library folders from Debian {}",
                packages.suite
            ),
            || fill(&packages, draft),
        )
    })?;
    let file = root.join("record.json");
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let record = serde_json::from_str(&text).with_context(|| format!("read {}", file.display()))?;
    Ok(Libraries {
        root,
        headers: packages.headers,
        record,
    })
}

fn fill(packages: &Packages, draft: &Path) -> Result<()> {
    let source = packages
        .libraries
        .join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let soname = &packages.pinned.soname;
    let engine = elf::read(&source.join(soname))?;
    ensure!(
        engine.soname.as_ref() == Some(soname),
        "the engine's soname is {}, versions.toml pins {soname}",
        engine.soname.as_deref().unwrap_or("missing")
    );
    let compiler = engine
        .needed
        .iter()
        .find(|name| name.starts_with("libLLVM"))
        .cloned();
    let compiler = compiler.with_context(|| {
        format!("{soname} needs no libLLVM, so it cannot compile guests: use another build of it")
    })?;
    let all = closure(&source, &[soname.as_str(), SECCOMP], &[])?;
    let run = closure(&source, &[soname.as_str(), SECCOMP], &[compiler.as_str()])?;
    let loader = run
        .iter()
        .find(|name| name.starts_with("ld-linux"))
        .cloned()
        .context("the C library names no loader")?;

    let (lib, compile) = (draft.join("lib"), draft.join("compile"));
    for folder in [&lib, &compile] {
        fs::create_dir(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    for name in &all {
        if run.contains(name) {
            copy(
                &source.join(name),
                &lib.join(name),
                if *name == loader { 0o755 } else { 0o644 },
            )?;
            symlink(format!("../lib/{name}"), compile.join(name))
                .with_context(|| format!("link {name} into {}", compile.display()))?;
        } else {
            copy(&source.join(name), &compile.join(name), 0o644)?;
        }
    }
    stand_in::make(
        &engine,
        &elf::read(&source.join(&compiler))?,
        &compiler,
        &lib.join(&compiler),
    )?;
    fs::set_permissions(lib.join(&compiler), fs::Permissions::from_mode(0o644))
        .context("set the mode of the stand-in")?;
    let version = probe::prove(draft, &packages.headers, &loader, soname)?;
    ensure!(
        version == packages.pinned.wasmedge,
        "the engine reports version {version}, versions.toml pins {}",
        packages.pinned.wasmedge
    );
    licences(packages, &draft.join("licenses"))?;

    let build_id = engine
        .build_id
        .with_context(|| format!("{soname} has no build id, which distinguishes artifacts"))?;
    let record = Record {
        suite: packages.suite.clone(),
        engine: Engine {
            version,
            soname: soname.clone(),
            build_id,
            compiler,
        },
        loader,
        packages: packages.list.clone(),
        files: files(draft)?,
    };
    fs::write(
        draft.join("record.json"),
        serde_json::to_vec_pretty(&record)?,
    )
    .context("write record.json")
}

/// Returns `roots` and all that they need, as file names in `folder`; without `left_out` and what
/// only it needs.
fn closure(folder: &Path, roots: &[&str], left_out: &[&str]) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut open: Vec<(String, String)> = roots
        .iter()
        .map(|&root| (root.to_owned(), "the runtime".to_owned()))
        .collect();
    while let Some((name, asker)) = open.pop() {
        if left_out.contains(&name.as_str()) || !found.insert(name.clone()) {
            continue;
        }
        let path = folder.join(&name);
        ensure!(
            path.exists(),
            "{asker} needs {name}, which no package of the bundle has: add its package to \
             bundle/packages.rs"
        );
        open.extend(
            elf::read(&path)?
                .needed
                .into_iter()
                .map(|needed| (needed, name.clone())),
        );
    }
    Ok(found)
}

/// Fails if `program` needs a library that `lib` does not have.
pub(super) fn must_hold_all_of(lib: &Path, program: &Path) -> Result<()> {
    let needed = elf::read(program)?.needed;
    let missing: Vec<&String> = needed
        .iter()
        .filter(|name| !lib.join(name).exists())
        .collect();
    ensure!(
        missing.is_empty(),
        "{} needs {missing:?}, which the bundle's lib does not have",
        program.display()
    );
    Ok(())
}

/// Copies each package's copyright file, and the full licences that these refer to.
fn licences(packages: &Packages, place: &Path) -> Result<()> {
    for package in &packages.list {
        let name = package.name.split(':').next().unwrap_or(&package.name);
        let folder = place.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        copy(
            &packages
                .libraries
                .join("usr/share/doc")
                .join(name)
                .join("copyright"),
            &folder.join("copyright"),
            0o644,
        )?;
    }
    let common = place.join("common-licenses");
    fs::create_dir_all(&common).with_context(|| format!("make {}", common.display()))?;
    let entries = fs::read_dir(&packages.common_licences)
        .with_context(|| format!("list {}", packages.common_licences.display()))?;
    for entry in entries {
        let entry = entry.context("list the common licences")?;
        copy(&entry.path(), &common.join(entry.file_name()), 0o644)?;
    }
    Ok(())
}

/// Copies the file `from`, or the target of the link `from`.
fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))
        .with_context(|| format!("set the mode of {}", to.display()))
}

/// Returns the SHA-256 of every file under `root`, by its path there.
pub(super) fn files(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry
                .with_context(|| format!("list {}", folder.display()))?
                .path();
            let kind = path
                .symlink_metadata()
                .with_context(|| format!("look at {}", path.display()))?
                .file_type();
            if kind.is_dir() {
                open.push(path);
                continue;
            }
            let what = if kind.is_symlink() {
                format!(
                    "-> {}",
                    fs::read_link(&path)
                        .with_context(|| format!("read the link {}", path.display()))?
                        .display()
                )
            } else if kind.is_file() {
                cache::sha256_of_file(&path)?
            } else {
                bail!(
                    "{} is neither a file nor a link nor a folder",
                    path.display()
                );
            };
            let name = path
                .strip_prefix(root)
                .expect("every path was found under `root`");
            found.insert(name.display().to_string(), what);
        }
    }
    Ok(found)
}
