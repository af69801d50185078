//! An OCI registry of a run's own: Debian's docker-registry with its own configuration, folder and
//! port.
//!
//! A shell stands between us and the registry and reads a pipe that we hold: when we end, however
//! that happens, the pipe closes and the shell ends the registry.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::apt::{self, Dependencies, Request};
use crate::cache::Cache;
use crate::command::last_lines;
use crate::image::{Credentials, Registry as Access, Transport};
use crate::wait;

/// How long the registry may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(30);

/// What the shell does: `$0` is the registry's program, `$1` its configuration.
const KEEPER: &str =
    r#""$0" serve "$1" & registry=$!; read -r _; kill "$registry"; wait "$registry""#;

/// A running registry; it ends when this value is dropped.
#[derive(Debug)]
pub struct Registry {
    keeper: Child,
    address: String,
    log: PathBuf,
}

/// A registry's program and arguments, for who starts it by other means.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// Fetches the registry's program and writes its configuration into `folder`, where it will also
/// keep its blobs. `address` is where it shall listen, `host:port`; with port 0 it chooses one.
///
/// # Errors
/// When the program cannot be fetched, or the configuration not be written.
pub fn prepare(cache: &Cache, folder: &Path, address: &str) -> Result<Prepared> {
    let package = Request {
        suite: "bookworm",
        packages: &["docker-registry"],
        dependencies: Dependencies::Leave,
    };
    let program = apt::fetch(cache, &package)?
        .root
        .join("usr/bin/docker-registry");
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let file = folder.join("registry.yml");
    fs::write(&file, configuration(&folder.join("blobs"), address))
        .with_context(|| format!("write {}", file.display()))?;
    Ok(Prepared {
        program,
        arguments: vec!["serve".to_owned(), file.display().to_string()],
    })
}

fn configuration(blobs: &Path, address: &str) -> String {
    // Printed with Rust's quotes and escapes, which YAML reads as its own.
    let blobs = blobs.display().to_string();
    format!(
        "version: 0.1\n\
         log: {{level: info, accesslog: {{disabled: true}}}}\n\
         storage:\n  filesystem: {{rootdirectory: {blobs:?}}}\n  delete: {{enabled: true}}\n\
         http: {{addr: {address:?}}}\n"
    )
}

impl Registry {
    /// Starts a registry that keeps everything in `folder` and listens on `address` (`127.0.0.1:0`
    /// chooses a free port).
    ///
    /// # Errors
    /// When it does not come up; the error carries its log.
    pub fn start(cache: &Cache, folder: &Path, address: &str) -> Result<Self> {
        let Prepared { program, arguments } = prepare(cache, folder, address)?;
        let configuration = arguments
            .last()
            .context("a prepared registry has its configuration as last argument")?;
        let log = folder.join("registry.log");
        let out = File::create(&log).with_context(|| format!("make {}", log.display()))?;
        let copy = out
            .try_clone()
            .with_context(|| format!("open {} again", log.display()))?;
        let keeper = Command::new("sh")
            .args(["-c", KEEPER])
            .arg(&program)
            .arg(configuration)
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(copy)
            // The registry would take such variables for settings.
            .env_clear()
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let mut registry = Self {
            keeper,
            address: String::new(),
            log,
        };
        registry.address = wait::until(
            "the registry to listen",
            START_LIMIT,
            || registry.look(),
            || registry.last_words(),
        )?;
        Ok(registry)
    }

    /// Where it listens: `host:port`, which is how image references begin.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where it listens, as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How one talks to it.
    pub fn access(&self) -> Access {
        Access {
            transport: Transport::Http,
            credentials: Credentials::Anonymous,
        }
    }

    /// The address that its log names, once it is there.
    fn look(&self) -> Result<Option<String>> {
        let text = fs::read_to_string(&self.log)
            .with_context(|| format!("read {}", self.log.display()))?;
        if let Some(line) = text
            .lines()
            .find(|line| line.contains("level=fatal") || line.contains("configuration error"))
        {
            bail!("the registry did not start: {line}");
        }
        let after = text.split_once("listening on ").map(|(_, after)| after);
        let address = after
            .and_then(|after| after.split_once('"'))
            .map(|(address, _)| address.to_owned());
        Ok(address)
    }

    fn last_words(&self) -> String {
        fs::read_to_string(&self.log).map_or_else(
            |error| format!("its log cannot be read: {error}"),
            |text| last_lines(&text, 20),
        )
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // The keeper ends once the registry has; there is nobody to tell if it cannot be waited
        // for.
        let _ = self.keeper.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_keeps_everything_in_the_folder_it_was_given() {
        let text = configuration(Path::new("/some where/blobs"), "127.0.0.1:0");
        assert!(
            text.contains(r#"rootdirectory: "/some where/blobs""#),
            "{text}"
        );
        assert!(text.contains(r#"addr: "127.0.0.1:0""#), "{text}");
    }
}
