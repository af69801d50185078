//! The containerd under test: Debian's, unpacked into the cache, or the pinned one, built from its
//! Go module.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::apt::{self, Dependencies, Request};
use crate::cache::Cache;
use crate::go;
use crate::requirements::{self, Need};
use crate::versions::Versions;

/// The Debian release of the tested containerd.
const SUITE: &str = "bookworm";

/// The schema of containerd's configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Schema {
    /// containerd 1.x.
    Two,
    /// containerd 2.x.
    Three,
}

/// A containerd installation: its programs and runc.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Install {
    /// A short name that is part of test names: `debian` or `current`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The folder with `containerd`, `ctr` and `containerd-shim-runc-v2`.
    pub bin: PathBuf,
    /// The folder with `runc`.
    pub runc: PathBuf,
}

impl Install {
    /// Finds Debian's containerd: needs no Go.
    ///
    /// # Errors
    /// Fails if its packages cannot be fetched.
    pub fn debian(cache: &Cache) -> Result<Self> {
        // runc is linked to this library; unlike containerd's own packages, its package starts no
        // service.
        requirements::install(&[Need {
            package: "libseccomp2",
            provides: "/usr/lib/*/libseccomp.so.2",
        }])?;
        let request = Request {
            suite: SUITE,
            packages: &["containerd", "runc"],
            dependencies: Dependencies::Leave,
        };
        let extracted = apt::fetch(cache, &request)?;
        let package = extracted
            .packages
            .iter()
            .find(|package| package.name == "containerd");
        let version = package
            .context("the fetched packages do not name containerd: remove the cache entry")?
            .version
            .clone();
        Ok(Self {
            name: "debian".to_owned(),
            version,
            bin: extracted.root.join("usr/bin"),
            runc: extracted.root.join("usr/sbin"),
        })
    }

    /// Builds the newest pinned containerd, unless it is cached, with Debian's runc.
    ///
    /// # Errors
    /// Fails if it cannot be built.
    pub fn current(cache: &Cache) -> Result<Self> {
        let Self { runc, .. } = Self::debian(cache)?;
        let version = Versions::pinned()?.containerd.current;
        let bin = go::containerd(cache, &version)?;
        Ok(Self {
            name: "current".to_owned(),
            version,
            bin,
            runc,
        })
    }

    /// Returns whether it pulls and imports Wasm artifacts: their layers are not file systems
    /// (since 1.6.25, 1.7.7, 2.0).
    ///
    /// # Errors
    /// Fails if the version does not start with three numbers.
    pub fn takes_artifacts(&self) -> Result<bool> {
        Ok(match self.numbers()? {
            (1, 6, patch) => patch >= 25,
            (1, 7, patch) => patch >= 7,
            (major, _, _) => major >= 2,
        })
    }

    pub(super) fn schema(&self) -> Result<Schema> {
        Ok(if self.numbers()?.0 >= 2 {
            Schema::Three
        } else {
            Schema::Two
        })
    }

    pub(super) fn has_local_import(&self) -> Result<bool> {
        Ok(self.numbers()?.0 >= 2)
    }

    fn numbers(&self) -> Result<(u32, u32, u32)> {
        let digits: Vec<u32> = self
            .version
            .split(|c: char| !c.is_ascii_digit())
            .take(3)
            .filter_map(|part| part.parse().ok())
            .collect();
        match digits[..] {
            [major, minor, patch] => Ok((major, minor, patch)),
            _ => Err(anyhow::anyhow!(
                "{} is not a version of containerd",
                self.version
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(version: &str) -> Install {
        Install {
            name: "x".to_owned(),
            version: version.to_owned(),
            bin: PathBuf::new(),
            runc: PathBuf::new(),
        }
    }

    #[test]
    fn artifacts_are_supported_since_1_6_25_1_7_7_and_2_0() {
        for (version, takes) in [
            ("1.6.20~ds1-1+b1", false),
            ("1.6.25", true),
            ("1.7.6", false),
            ("1.7.24~ds1-6", true),
            ("2.0.0", true),
            ("2.4.2", true),
        ] {
            assert_eq!(
                install(version).takes_artifacts().unwrap(),
                takes,
                "{version}"
            );
        }
    }

    #[test]
    fn config_has_a_new_schema_since_containerd_2() {
        assert_eq!(install("1.6.20~ds1").schema().unwrap(), Schema::Two);
        assert_eq!(install("2.4.2").schema().unwrap(), Schema::Three);
        install("trunk").schema().unwrap_err();
    }
}
