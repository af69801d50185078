//! Debian packages that are fetched into the cache through apt's signed indexes. The system's own
//! apt state is not touched.
//!
//! For packages that must not be installed: libraries of a newer Debian release, and packages that
//! would start a service. apt does the work (indexes, signatures, hashes, dependencies) with
//! separate sources, lists, status and cache for each suite. Each result is one cache entry: the
//! unpacked tree and the record of its packages.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::cache::{self, Cache, Key};
use crate::command::Run;
use crate::progress;

mod mirror;
mod suite;

/// Part of each entry's key: increase it when the form of an entry changes.
const FORMAT: &str = "1";

/// Dependencies to fetch with a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependencies {
    /// All dependencies, as on a system without any package: down to the C library.
    Follow,
    /// None: the named packages alone.
    Leave,
}

/// Packages to fetch.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The Debian suite, such as `bookworm`, `sid` or `trixie-backports`. Only this suite is
    /// searched: a backport's dependencies in its base suite are not found.
    pub suite: &'a str,
    /// The packages' names.
    pub packages: &'a [&'a str],
    /// Whether to fetch their dependencies.
    pub dependencies: Dependencies,
}

/// A fetched package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its full Debian version.
    pub version: String,
    /// SHA-256 of its `.deb`, the same in the suite's signed index and in the file.
    pub sha256: String,
}

/// Packages unpacked into the cache.
#[derive(Debug, Clone)]
pub struct Extracted {
    /// The folder that takes the place of `/`. It is shared: never write into it.
    pub root: PathBuf,
    /// The unpacked packages, sorted by name.
    pub packages: Vec<Package>,
}

/// Fetches and unpacks the packages of `request`. Later calls find the same versions in the cache,
/// without apt and without a network.
///
/// # Errors
/// Fails if apt cannot reach or verify the suite, a package is not in it, or a file differs from
/// the index.
pub fn fetch(cache: &Cache, request: &Request<'_>) -> Result<Extracted> {
    let mut inputs = vec![
        FORMAT,
        std::env::consts::ARCH,
        request.suite,
        request.dependencies.name(),
    ];
    inputs.extend(request.packages);
    let place = cache.entry("apt", &Key::of(inputs), |draft| {
        progress::step(
            format_args!(
                "fetched {} (Debian {})",
                request.packages.join(" "),
                request.suite
            ),
            || fill(cache, request, draft),
        )
        .with_context(|| {
            format!(
                "fetch {} from Debian {}",
                request.packages.join(" "),
                request.suite
            )
        })
    })?;
    let record = place.join(RECORD);
    let text = fs::read_to_string(&record).with_context(|| format!("read {}", record.display()))?;
    let packages =
        serde_json::from_str(&text).with_context(|| format!("read {}", record.display()))?;
    Ok(Extracted {
        root: place.join(ROOT),
        packages,
    })
}

/// Returns the version of `package` that `suite` offers for this machine's architecture. Each call
/// uses the network.
///
/// # Errors
/// Fails if apt cannot reach or verify the suite.
pub fn offered(cache: &Cache, suite: &str, package: &str) -> Result<Option<String>> {
    suite::Suite::open(cache, suite)?.version_of(package)
}

/// Returns the address of the Debian archive that this machine's apt uses.
///
/// # Errors
/// Fails if its configuration names none.
pub fn mirror() -> Result<String> {
    mirror::of_machine(Path::new("/etc/apt"))
}

const ROOT: &str = "root";
const RECORD: &str = "packages.json";

impl Dependencies {
    fn name(self) -> &'static str {
        match self {
            Self::Follow => "follow",
            Self::Leave => "leave",
        }
    }
}

/// Fills the entry with `root` and the record. The `.deb` files lie beside them until they are
/// unpacked.
fn fill(cache: &Cache, request: &Request<'_>, draft: &Path) -> Result<()> {
    let suite = suite::Suite::open(cache, request.suite)?;
    let wanted = match request.dependencies {
        Dependencies::Follow => suite.closure(request.packages)?,
        Dependencies::Leave => request
            .packages
            .iter()
            .map(|&name| name.to_owned())
            .collect(),
    };
    let archives = tempfile::tempdir_in(draft)
        .with_context(|| format!("make a folder in {}", draft.display()))?;
    let root = draft.join(ROOT);
    fs::create_dir(&root).with_context(|| format!("make {}", root.display()))?;
    let mut packages = Vec::new();
    for archive in suite.download(&wanted, archives.path())? {
        packages.push(check(&archive)?);
        Run::new("dpkg-deb")
            .arg("--extract")
            .arg(&archive.file)
            .arg(&root)
            .done()?;
    }
    packages.sort();
    let record = draft.join(RECORD);
    fs::write(&record, serde_json::to_vec_pretty(&packages)?)
        .with_context(|| format!("write {}", record.display()))
}

/// Compares the file with the index, and reads the package's name and version from the file.
fn check(archive: &suite::Archive) -> Result<Package> {
    let found = cache::sha256_of_file(&archive.file)?;
    ensure!(
        found == archive.sha256,
        "{}: SHA-256 is {found}, the suite's index has {}: fetch it again, and distrust the \
         mirror if it stays so",
        archive.file.display(),
        archive.sha256
    );
    let printed = Run::new("dpkg-deb")
        .args(["--show", "--showformat", "${Package} ${Version}"])
        .arg(&archive.file)
        .text()?;
    let (name, version) = printed
        .split_once(' ')
        .with_context(|| format!("{} names no package and version", archive.file.display()))?;
    Ok(Package {
        name: name.to_owned(),
        version: version.to_owned(),
        sha256: found,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_that_differs_from_the_index_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a_1_all.deb");
        fs::write(&file, "not the indexed content").unwrap();
        let error = check(&suite::Archive {
            file,
            sha256: "00".repeat(32),
        })
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("a_1_all.deb") && error.contains("index has 0000"),
            "{error}"
        );
    }

    #[test]
    fn cached_packages_are_found_without_apt() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned()).unwrap();
        let request = Request {
            suite: "no-such-suite",
            packages: &["a"],
            dependencies: Dependencies::Leave,
        };
        let key = Key::of([
            FORMAT,
            std::env::consts::ARCH,
            "no-such-suite",
            "leave",
            "a",
        ]);
        let package = Package {
            name: "a".into(),
            version: "1".into(),
            sha256: "0".into(),
        };
        let record = serde_json::to_vec(&[&package]).unwrap();
        cache
            .entry("apt", &key, |draft| {
                Ok(fs::write(draft.join(RECORD), record)?)
            })
            .unwrap();
        assert_eq!(fetch(&cache, &request).unwrap().packages, [package]);
    }
}
