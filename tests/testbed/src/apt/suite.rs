//! apt with one Debian suite as its only source and a separate state, in which no package is
//! installed.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::Flock;

use super::mirror;
use crate::cache::{self, Cache};
use crate::command::Run;

/// The keys that Debian signs its suites with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One suite with a fresh, verified index. One process holds it at a time: apt fails where it would
/// have to wait.
pub(super) struct Suite {
    name: String,
    config: PathBuf,
    _lock: Flock<File>,
}

/// A downloaded package and its entry in the suite's index.
pub(super) struct Archive {
    pub(super) file: PathBuf,
    pub(super) sha256: String,
}

impl Suite {
    /// Opens the suite's state in `cache` and updates its index.
    pub(super) fn open(cache: &Cache, name: &str) -> Result<Self> {
        ensure!(
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
                && !name.starts_with('.'),
            "{name:?} is not a valid name of a Debian suite"
        );
        ensure!(
            Path::new(KEYRING).exists(),
            "{KEYRING} is missing: install the package debian-archive-keyring"
        );
        let mirror = mirror::of_machine(Path::new("/etc/apt"))?;
        let state = cache.managed(&format!("apt-state/{name}"))?;
        let lock = cache::lock(&state.join(".lock"))?;
        for folder in ["sources", "lists", "cache", "log"] {
            cache.managed(&format!("apt-state/{name}/{folder}"))?;
        }
        write(&state.join("status"), "")?;
        write(
            &state.join("sources/debian.sources"),
            &format!(
                "Types: deb\nURIs: {mirror}\nSuites: {name}\nComponents: main\nSigned-By: \
                 {KEYRING}\n"
            ),
        )?;
        let config = state.join("apt.conf");
        write(&config, &configuration(&state)?)?;
        let suite = Self {
            name: name.to_owned(),
            config,
            _lock: lock,
        };
        suite.apt("apt-get").args(["update", "-qq"]).done()?;
        Ok(suite)
    }

    /// Returns `name=version` of `packages` and of all their dependencies.
    pub(super) fn closure(&self, packages: &[&str]) -> Result<Vec<String>> {
        let listing = self
            .apt("apt-get")
            .args(["install", "--yes", "-qq", "--print-uris"])
            .args(packages)
            .text()?;
        listing
            .lines()
            .map(|line| name_and_version(listed_file(line)?))
            .collect()
    }

    /// Returns the version of `package` that the suite offers.
    pub(super) fn version_of(&self, package: &str) -> Result<Option<String>> {
        let table = self.apt("apt-cache").args(["madison", package]).text()?;
        Ok(table
            .lines()
            .next()
            .and_then(|line| line.split('|').nth(1))
            .map(|version| version.trim().to_owned()))
    }

    /// Downloads `wanted` (`name` or `name=version`) into `folder`.
    pub(super) fn download(&self, wanted: &[String], folder: &Path) -> Result<Vec<Archive>> {
        let download = || {
            self.apt("apt-get")
                .current_dir(folder)
                .args(["download", "-qq"])
        };
        let listing = download().arg("--print-uris").args(wanted).text()?;
        let archives = listing
            .lines()
            .map(|line| {
                let sha256 = line
                    .rsplit(' ')
                    .find_map(|word| word.strip_prefix("SHA256:"));
                let sha256 = sha256.with_context(|| {
                    format!("apt gave no SHA-256 for a file of {}: {line}", self.name)
                })?;
                Ok(Archive {
                    file: folder.join(listed_file(line)?),
                    sha256: sha256.to_owned(),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        ensure!(
            archives.len() == wanted.len(),
            "apt found {} files for these packages of {}: {wanted:?}",
            archives.len(),
            self.name
        );
        download().args(wanted).done()?;
        Ok(archives)
    }

    fn apt(&self, program: &str) -> Run {
        Run::new(program)
            .env("APT_CONFIG", &self.config)
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
    }
}

/// Returns apt's whole configuration: of the machine's own settings only the network ones.
fn configuration(state: &Path) -> Result<String> {
    let state = state
        .to_str()
        .with_context(|| format!("the cache folder's name is not UTF-8: {}", state.display()))?;
    ensure!(
        !state.contains('"'),
        "the cache folder's name holds a quotation mark, which apt cannot read: {state}"
    );
    let mut text = format!(
        r#"Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{state}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::status "{state}/status";
Dir::State::lists "{state}/lists";
Dir::State::extended_states "{state}/extended_states";
Dir::Cache "{state}/cache";
Dir::Cache::srcpkgcache "";
Dir::Log "{state}/log";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::Retries "3";
"#
    );
    let machine = Run::new("apt-config")
        .args(["dump", "--format", "%f \"%v\";%n", "Acquire"])
        .text()?;
    for line in machine.lines().filter(|line| is_way_to_the_network(line)) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
    }
    Ok(text)
}

/// Returns whether a setting concerns access to the network. The machine's proxies, certificates
/// and time checks are kept; its settings for signatures are not.
fn is_way_to_the_network(line: &str) -> bool {
    let kept = [
        "Acquire::http::",
        "Acquire::https::",
        "Acquire::Check-Valid-Until ",
        "Acquire::Check-Date ",
    ];
    kept.iter().any(|prefix| line.starts_with(prefix)) && !line.ends_with(" \"\";")
}

/// Returns the file name in a line of `--print-uris`: `'ADDRESS' FILE SIZE HASH`.
fn listed_file(line: &str) -> Result<&str> {
    line.rsplit_once("' ")
        .and_then(|(_, rest)| rest.split(' ').next())
        .filter(|file| {
            Path::new(file)
                .extension()
                .is_some_and(|extension| extension == "deb")
                && !file.contains('/')
        })
        .with_context(|| format!("apt listed something else than a package: {line}"))
}

/// Returns `name=version` of a package file; a colon of the version is `%3a` in the file name.
fn name_and_version(file: &str) -> Result<String> {
    let mut parts = file.split('_');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(version), Some(_architecture), None) => {
            Ok(format!("{name}={}", version.replace("%3a", ":")))
        }
        _ => anyhow::bail!(
            "{file} is not named like a Debian package (name_version_architecture.deb)"
        ),
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_file_is_read_with_its_epoch() {
        let line = "'http://m.example/pool/z/zlib1g_1.3%2b2-3_amd64.deb' \
                    zlib1g_1%3a1.3+2-3_amd64.deb 90912 SHA256:67b9";
        assert_eq!(
            name_and_version(listed_file(line).unwrap()).unwrap(),
            "zlib1g=1:1.3+2-3"
        );
    }

    #[test]
    fn listed_file_outside_its_folder_is_refused() {
        listed_file("'http://m.example/x.deb' ../x.deb 1 SHA256:0").unwrap_err();
    }

    #[test]
    fn only_network_settings_of_the_machine_are_kept() {
        assert!(is_way_to_the_network(
            "Acquire::http::Proxy \"http://p.example:3128\";"
        ));
        assert!(!is_way_to_the_network(
            "Acquire::AllowInsecureRepositories \"true\";"
        ));
        assert!(!is_way_to_the_network(
            "APT::Get::AllowUnauthenticated \"true\";"
        ));
        assert!(!is_way_to_the_network("Acquire::http::Proxy \"\";"));
    }

    #[test]
    fn path_is_not_a_suite_name() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned()).unwrap();
        for name in ["../x", "a b", "a/b"] {
            assert!(Suite::open(&cache, name).is_err(), "{name}");
        }
    }
}
