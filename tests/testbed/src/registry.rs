//! An OCI registry of a run: Debian's docker-registry with its own configuration, folder and port.
//!
//! A shell supervises the registry. It reads a pipe that this process holds: when this process ends
//! for any reason, the pipe closes and the shell stops the registry.

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

/// Timeout for the registry to listen after its start.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The supervising shell's script: `$0` is the registry's program, `$1` its configuration.
const SUPERVISOR_SCRIPT: &str =
    r#""$0" serve "$1" & registry=$!; read -r _; kill "$registry"; wait "$registry""#;

/// A running registry; it stops when this value is dropped.
#[derive(Debug)]
pub struct Registry {
    supervisor: Child,
    address: String,
    log: PathBuf,
}

/// A registry's program and arguments, for callers that start it themselves.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// Fetches the registry's program and writes its configuration into `folder`, which will also hold
/// its blobs. It will listen on `address`, `host:port`; with port 0 it chooses one.
///
/// # Errors
/// Fails if the program cannot be fetched, or the configuration cannot be written.
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
    // Formatted with Rust's quotes and escapes, which are valid YAML.
    let blobs = blobs.display().to_string();
    format!(
        "version: 0.1\n\
         log: {{level: info, accesslog: {{disabled: true}}}}\n\
         storage:\n  filesystem: {{rootdirectory: {blobs:?}}}\n  delete: {{enabled: true}}\n\
         http: {{addr: {address:?}}}\n"
    )
}

impl Registry {
    /// Starts a registry with all its data in `folder` that listens on `address` (`127.0.0.1:0`
    /// chooses a free port).
    ///
    /// # Errors
    /// Fails if it does not come up; the error carries its log.
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
        let supervisor = Command::new("sh")
            .args(["-c", SUPERVISOR_SCRIPT])
            .arg(&program)
            .arg(configuration)
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(copy)
            // The registry would read such variables as settings.
            .env_clear()
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let mut registry = Self {
            supervisor,
            address: String::new(),
            log,
        };
        registry.address = wait::until(
            "the registry to listen",
            START_TIMEOUT,
            || registry.poll_address(),
            || registry.log_tail(),
        )?;
        Ok(registry)
    }

    /// Returns its address, `host:port`, which is the prefix of image references.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Returns the access settings for its clients.
    pub fn access(&self) -> Access {
        Access {
            transport: Transport::Http,
            credentials: Credentials::Anonymous,
        }
    }

    /// Returns the address in its log, once it is logged.
    fn poll_address(&self) -> Result<Option<String>> {
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

    fn log_tail(&self) -> String {
        fs::read_to_string(&self.log).map_or_else(
            |error| format!("its log cannot be read: {error}"),
            |text| last_lines(&text, 20),
        )
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        // The supervisor ends after the registry; a failed wait has no effect on the test.
        let _ = self.supervisor.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_keeps_all_data_in_the_given_folder() {
        let text = configuration(Path::new("/some where/blobs"), "127.0.0.1:0");
        assert!(
            text.contains(r#"rootdirectory: "/some where/blobs""#),
            "{text}"
        );
        assert!(text.contains(r#"addr: "127.0.0.1:0""#), "{text}");
    }
}
