//! The Debian packages of the runtime, and their suite.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use testbed::apt::{self, Dependencies, Package, Request};
use testbed::cache::{Cache, Key};
use testbed::versions::{self, Versions};

const ENGINE: &str = "libwasmedge0";

/// The packages, unpacked.
#[derive(Debug)]
pub(super) struct Packages {
    /// The suite that all of them come from.
    pub(super) suite: String,
    /// The pinned versions.
    pub(super) pinned: versions::Runtime,
    /// The tree of the libraries: the engine, libseccomp and all that they need.
    pub(super) libraries: PathBuf,
    /// The folder of C headers.
    pub(super) headers: PathBuf,
    /// The folder of the licences that packages' copyright files refer to.
    pub(super) common_licences: PathBuf,
    /// Every package in `libraries`.
    pub(super) list: Vec<Package>,
}

/// Returns the packages; fetches them the first time.
pub(super) fn fetch(cache: &Cache) -> Result<Packages> {
    let pinned = Versions::pinned()?.runtime;
    let suite = suite(cache, &pinned)?;
    let fetch = |packages: &[&str], dependencies| {
        apt::fetch(
            cache,
            &Request {
                suite: &suite,
                packages,
                dependencies,
            },
        )
    };
    let libraries = fetch(&[ENGINE, "libseccomp2"], Dependencies::Follow)?;
    let headers = fetch(&["libwasmedge-dev"], Dependencies::Leave)?;
    let licences = fetch(&["base-files"], Dependencies::Leave)?;
    for package in libraries
        .packages
        .iter()
        .chain(&headers.packages)
        .filter(|package| package.name.starts_with("libwasmedge"))
    {
        ensure!(
            upstream(&package.version) == pinned.wasmedge,
            "{} of Debian {suite} is {}, versions.toml pins {}: run `cargo xtask clean` and this \
             again, or pin what the suite has",
            package.name,
            package.version,
            pinned.wasmedge
        );
    }
    Ok(Packages {
        headers: headers.root.join("usr/include"),
        common_licences: licences.root.join("usr/share/common-licenses"),
        libraries: libraries.root,
        list: libraries.packages,
        suite,
        pinned,
    })
}

/// Returns the first pinned suite that offers the pinned version, from apt's index the first time,
/// later from the cache.
fn suite(cache: &Cache, pinned: &versions::Runtime) -> Result<String> {
    let suites = pinned.suites.join(" ");
    let key = Key::of([std::env::consts::ARCH, &pinned.wasmedge, &suites]);
    let place = cache.entry("runtime-suite", &key, |draft| {
        let mut offers = Vec::new();
        for suite in &pinned.suites {
            let offered = apt::offered(cache, suite, ENGINE)?;
            if offered
                .as_deref()
                .is_some_and(|version| upstream(version) == pinned.wasmedge)
            {
                return fs::write(draft.join("suite"), suite).context("write the chosen suite");
            }
            offers.push(format!("{suite}: {}", offered.as_deref().unwrap_or("none")));
        }
        bail!(
            "no suite of versions.toml offers {ENGINE} {} ({}): pin another version or suite under \
             [runtime]",
            pinned.wasmedge,
            offers.join(", ")
        )
    })?;
    fs::read_to_string(place.join("suite"))
        .with_context(|| format!("read {}/suite", place.display()))
}

/// Returns the upstream part of a Debian version: without epoch, Debian's revision and the mark of
/// a repacked source.
fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    let version = version
        .rsplit_once('-')
        .map_or(version, |(upstream, _)| upstream);
    version.split(['+', '~']).next().unwrap_or(version)
}

#[cfg(test)]
mod tests {
    use super::upstream;

    #[test]
    fn upstream_version_has_no_debian_marks() {
        for (version, expected) in [
            ("0.17.1-1+b1", "0.17.1"),
            ("1:0.14.1+dfsg-3.1", "0.14.1"),
            ("2.0", "2.0"),
            ("1.0~rc1-2", "1.0"),
        ] {
            assert_eq!(upstream(version), expected);
        }
    }
}
