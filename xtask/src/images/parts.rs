//! The list of parts of an image: SPDX 2.3 in JSON, the same text for the same parts.
//!
//! It has every Rust crate that cargo links into a program of the image, and every Debian package
//! from which a file in the image may come.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use testbed::apt::Package;
use testbed::cache::hex;

use crate::bundle::VERSION;
use crate::setup;

/// A crate that is linked into a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Crate {
    name: String,
    version: String,
    /// The licence in its Cargo.toml; empty if there is none.
    licence: String,
    /// SHA-256 of its package, from Cargo.lock; `None` for the project's own.
    sha256: Option<String>,
}

/// The parts of one image.
#[derive(Debug)]
pub(super) struct Parts {
    image: String,
    crates: BTreeSet<Crate>,
    /// Debian packages, each with its suite.
    debian: BTreeSet<(Package, String)>,
}

impl Parts {
    /// Makes the list of an image with `crates`.
    pub(super) fn of(image: &str, crates: Vec<Crate>) -> Self {
        Self {
            image: image.to_owned(),
            crates: crates.into_iter().collect(),
            debian: BTreeSet::new(),
        }
    }

    pub(super) fn add_crates(&mut self, crates: Vec<Crate>) {
        self.crates.extend(crates);
    }

    /// Adds packages of the Debian suite `suite`.
    pub(super) fn add_debian(&mut self, suite: &str, packages: &[Package]) {
        self.debian.extend(
            packages
                .iter()
                .map(|package| (package.clone(), suite.to_owned())),
        );
    }

    /// Returns the SPDX document.
    pub(super) fn text(&self) -> Result<Vec<u8>> {
        let mut packages = vec![package(
            "Image",
            &self.image,
            VERSION,
            env!("CARGO_PKG_LICENSE"),
            None,
            None,
        )];
        for (index, part) in self.crates.iter().enumerate() {
            let locator = format!("pkg:cargo/{}@{}", part.name, part.version);
            let id = format!("Crate-{index}");
            packages.push(package(
                &id,
                &part.name,
                &part.version,
                &part.licence,
                part.sha256.as_deref(),
                Some(&locator),
            ));
        }
        for (index, (part, suite)) in self.debian.iter().enumerate() {
            let name = part.name.split(':').next().unwrap_or(&part.name);
            let version = part.version.replace('+', "%2B").replace(':', "%3A");
            let locator = format!("pkg:deb/debian/{name}@{version}?distro={suite}");
            packages.push(package(
                &format!("Debian-{index}"),
                name,
                &part.version,
                "",
                Some(&part.sha256),
                Some(&locator),
            ));
        }
        let contains = packages.iter().skip(1).map(|part| {
            json!({ "spdxElementId": "SPDXRef-Image", "relationshipType": "CONTAINS",
                "relatedSpdxElement": part["SPDXID"] })
        });
        let describes = json!({
            "spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
            "relatedSpdxElement": "SPDXRef-Image",
        });
        let relationships: Vec<Value> = std::iter::once(describes).chain(contains).collect();
        // A document's name must be unique: it is the digest of its content.
        let digest = hex(&Sha256::digest(
            serde_json::to_vec(&packages).context("write down the parts")?,
        ));
        let document = json!({
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": format!("{}-{VERSION}", self.image),
            "documentNamespace": format!("{}/spdx/{}-{VERSION}-{digest}",
            env!("CARGO_PKG_REPOSITORY"), self.image),
            "creationInfo": { "created": "1970-01-01T00:00:00Z", "creators": [format!("Tool: \
                                                            xtask-{VERSION}")] },
            "packages": packages,
            "relationships": relationships,
        });
        serde_json::to_vec_pretty(&document).context("write down the parts")
    }
}

fn package(
    id: &str,
    name: &str,
    version: &str,
    licence: &str,
    sha256: Option<&str>,
    locator: Option<&str>,
) -> Value {
    let licence = if licence.is_empty() {
        "NOASSERTION".to_owned()
    } else {
        expression(licence)
    };
    let mut package = json!({
        "SPDXID": format!("SPDXRef-{id}"),
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": licence,
        "copyrightText": "NOASSERTION",
    });
    if let Some(sha256) = sha256 {
        package["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": sha256 }]);
    }
    if let Some(locator) = locator {
        package["externalRefs"] = json!([{ "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl", "referenceLocator": locator }]);
    }
    package
}

/// Returns a licence in SPDX's form: older crates put a slash between alternatives.
fn expression(licence: &str) -> String {
    licence
        .split('/')
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" OR ")
}

/// The cargo build of a program, which decides the features of its dependencies, and so its crates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Built {
    /// A build of its package alone.
    Alone,
    /// A build of the workspace ([`setup::executable`]).
    WithWorkspace,
}

/// Returns the crates that are linked into the programs of `package`, itself included.
pub(super) fn crates(package: &str, built: Built) -> Result<Vec<Crate>> {
    let selection = match built {
        Built::Alone => &["--package", package][..],
        Built::WithWorkspace => &["--workspace"],
    };
    // The whole tree, so that each of the workspace's packages has all of its crates below it.
    let whole = ["--prefix", "depth", "--no-dedupe", "--format", " {p}|{l}"];
    let trees = setup::cargo()
        .args(["tree", "--locked", "--edges", "normal,no-proc-macro"])
        .args(selection)
        .args(whole)
        .text()?;
    let list = tree_of(package, &trees);
    let lock = setup::repository().join("Cargo.lock");
    let lock = fs::read_to_string(&lock).with_context(|| format!("read {}", lock.display()))?;
    let digests = digests(&lock);
    let crates: BTreeSet<Crate> = list
        .into_iter()
        .filter_map(|line| parse(line, &digests))
        .collect();
    Ok(crates.into_iter().collect())
}

/// Returns the lines of the tree with root `package` from several trees with lines `DEPTH name …`,
/// without their depths.
fn tree_of<'a>(package: &str, trees: &'a str) -> Vec<&'a str> {
    let mut is_in = false;
    let lines = trees
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(depth, rest)| {
            if depth == "0" {
                is_in = rest.split_whitespace().next() == Some(package);
            }
            is_in.then_some(rest)
        });
    lines.collect()
}

/// Parses a line of cargo's list: `name vVERSION …|LICENCE`.
fn parse(line: &str, digests: &BTreeMap<(String, String), String>) -> Option<Crate> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.split_whitespace();
    let (name, version) = (
        words.next()?.to_owned(),
        words.next()?.strip_prefix('v')?.to_owned(),
    );
    let licence = licence.trim().to_owned();
    let sha256 = digests.get(&(name.clone(), version.clone())).cloned();
    Some(Crate {
        name,
        version,
        licence,
        sha256,
    })
}

/// Returns the digest of each crate's package in Cargo.lock, by name and version.
fn digests(lock: &str) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for block in lock.split("[[package]]") {
        let value = |key: &str| {
            block.lines().find_map(|line| {
                line.strip_prefix(key)?
                    .strip_prefix(" = \"")?
                    .strip_suffix('"')
            })
        };
        if let (Some(name), Some(version), Some(digest)) =
            (value("name"), value("version"), value("checksum"))
        {
            found.insert((name.to_owned(), version.to_owned()), digest.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \
                        \"registry\"\nchecksum = \"00ff\"\n\n[[package]]\nname = \"ours\"\nversion \
                        = \"0.1.0\"\n";

    #[test]
    fn crate_has_the_digest_of_the_lock_file() {
        let digests = digests(LOCK);
        let found = parse("a v1.0.0|MIT/Apache-2.0", &digests).unwrap();
        assert_eq!(
            (found.licence.as_str(), found.sha256.as_deref()),
            ("MIT/Apache-2.0", Some("00ff"))
        );
        assert_eq!(expression(&found.licence), "MIT OR Apache-2.0");
        assert_eq!(
            parse("ours v0.1.0 (/somewhere)|Apache-2.0", &digests)
                .unwrap()
                .sha256,
            None
        );
        assert_eq!(parse("", &digests), None);
    }

    #[test]
    fn crates_of_a_package_are_those_of_its_own_tree() {
        let trees = "0 a v0.1.0|MIT\n1 x v1.0.0|MIT\n\n0 b v0.1.0|MIT\n1 y v1.0.0|MIT\n2 a \
                     v0.1.0|MIT\n\n0 c v0.1.0|MIT\n1 z v1.0.0|MIT\n";
        assert_eq!(
            tree_of("b", trees),
            ["b v0.1.0|MIT", "y v1.0.0|MIT", "a v0.1.0|MIT"]
        );
        assert!(tree_of("nobody", trees).is_empty());
    }

    #[test]
    fn document_describes_the_image_and_its_parts() {
        let mut parts = Parts::of(
            "image",
            vec![parse("a v1.0.0|MIT", &digests(LOCK)).unwrap()],
        );
        parts.add_debian(
            "sid",
            &[Package {
                name: "libc6:amd64".into(),
                version: "1:2.43-7+b1".into(),
                sha256: "ab".into(),
            }],
        );
        let document: Value = serde_json::from_slice(&parts.text().unwrap()).unwrap();
        assert_eq!(document["spdxVersion"], "SPDX-2.3");
        let locators: Vec<&str> = document["packages"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|part| part["externalRefs"][0]["referenceLocator"].as_str())
            .collect();
        assert_eq!(
            locators,
            [
                "pkg:cargo/a@1.0.0",
                "pkg:deb/debian/libc6@1%3A2.43-7%2Bb1?distro=sid"
            ]
        );
        let kinds: Vec<&str> = document["relationships"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|one| one["relationshipType"].as_str())
            .collect();
        assert_eq!(kinds, ["DESCRIBES", "CONTAINS", "CONTAINS"]);
        assert_eq!(parts.text().unwrap(), parts.text().unwrap());
    }
}
