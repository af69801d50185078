//! The runtime bundle that this executable belongs to, and the host in it.
//!
//! The host runs on the loader and C library of its own bundle, found beside this executable, so
//! that a bundle works on any distribution and wherever it is unpacked.

use std::fs;
use std::io::{PipeReader, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use command_fds::{CommandFdExt as _, FdMapping};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use shim_protocol::host::{HostArguments, READY, SOCKET_FD};

/// Variables that a host needs of containerd's environment. The rest is not its business; `LD_*`
/// least of all.
const ENVIRONMENT: &[&str] = &["TTRPC_ADDRESS", "PATH"];

#[cfg(target_arch = "x86_64")]
const LOADER: &str = "ld-linux-x86-64.so.2";
#[cfg(target_arch = "aarch64")]
const LOADER: &str = "ld-linux-aarch64.so.1";

/// How long a host may take until it serves: a large engine on a slow disk, on a node that is
/// starting hundreds of pods.
const PATIENCE: Duration = Duration::from_mins(1);
/// More words than any error has.
const MOST_WORDS: usize = 8 << 10;

/// An unpacked runtime bundle.
#[derive(Debug)]
pub(crate) struct Bundle {
    root: PathBuf,
}

impl Bundle {
    pub(crate) fn around_this_executable() -> Result<Self> {
        let executable = fs::read_link("/proc/self/exe").context("read /proc/self/exe")?;
        let root = executable.parent().and_then(Path::parent);
        Ok(Self {
            root: root
                .with_context(|| format!("{} lies in no runtime bundle", executable.display()))?
                .to_owned(),
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The command that starts a host on the bundle's own loader and libraries, whatever the node
    /// has.
    ///
    /// # Errors
    /// When part of it is missing.
    pub(crate) fn host(&self) -> Result<Command> {
        let (host, libraries) = (self.root.join("bin/wasmedge-host"), self.root.join("lib"));
        let loader = libraries.join(LOADER);
        for file in [&host, &loader] {
            if !file.is_file() {
                bail!(
                    "{} is missing: the runtime bundle in {} is incomplete, install it again",
                    file.display(),
                    self.root.display()
                );
            }
        }
        let mut command = Command::new(loader);
        command
            .arg("--inhibit-cache")
            .arg("--argv0")
            .arg("wasmedge-host")
            .arg("--library-path")
            .arg(libraries)
            .arg(host);
        Ok(command)
    }
}

/// Runs `command`, which [`Bundle::host`] made, as a host with these arguments that accepts
/// connections of `listener`, and waits until it serves: who cannot serve could tell nobody else
/// why.
///
/// It stays in containerd's control group, as shims do: containerd's service leaves them running
/// when it is stopped.
pub(crate) fn spawn(
    mut command: Command,
    arguments: &HostArguments,
    listener: UnixListener,
) -> Result<()> {
    command.args(arguments.to_args());
    command.env_clear();
    command.envs(
        ENVIRONMENT
            .iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?))),
    );
    // Not the container's bundle, which containerd removes while the host goes on.
    command.current_dir("/");
    let (said, stderr) = std::io::pipe().context("make a pipe to the host")?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr);
    command
        .fd_mappings(vec![FdMapping {
            parent_fd: OwnedFd::from(listener),
            child_fd: SOCKET_FD,
        }])
        .context("hand the socket to the host")?;
    let host = command
        .spawn()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    // It has our end of what the host writes to.
    drop(command);
    await_ready(host, said, PATIENCE)
}

/// Waits until `host` says that it serves. One that does not is ended, and its words are the error.
fn await_ready(mut host: Child, mut said: PipeReader, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    let mut text = Vec::new();
    let why = loop {
        if text.ends_with(READY.as_bytes()) {
            return Ok(());
        }
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()))
            .context("count seconds")?;
        let mut part = [0; 4 << 10];
        match poll(&mut [PollFd::new(&said, PollFlags::IN)], Some(&left)) {
            Ok(0) => break Some(format!("it is not ready after {} s", patience.as_secs())),
            Ok(_) if text.len() > MOST_WORDS => break None,
            Ok(_) => match said.read(&mut part).context("listen to the host")? {
                0 => break None,
                length => text.extend_from_slice(&part[..length]),
            },
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for the host"),
        }
    };
    // It may have ended by itself.
    let _ = host.kill();
    let status = host.wait().context("wait for the end of the host")?;
    let text = String::from_utf8_lossy(&text);
    match (why, text.trim()) {
        (Some(why), words) => bail!("the host did not start: {why} {words}"),
        (None, "") => bail!("the host did not start, and did not say why ({status})"),
        (None, words) => bail!("the host did not start: {words}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_bundle_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Bundle {
            root: folder.path().to_owned(),
        }
        .host()
        .unwrap_err()
        .to_string();
        assert!(error.contains("bin/wasmedge-host is missing"), "{error}");
    }

    /// What is said of a host that does what this script says.
    fn awaited(script: &str) -> Result<()> {
        let (said, stderr) = std::io::pipe().unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        let host = command.spawn().unwrap();
        drop(command);
        await_ready(host, said, Duration::from_millis(500))
    }

    #[test]
    fn a_host_is_waited_for_until_it_serves_or_says_why_not() {
        awaited(&format!(
            "echo a warning >&2; printf '{}' >&2; exec 2>&-; exec sleep 5",
            READY.escape_default()
        ))
        .unwrap();
        for (script, words) in [
            ("echo 'no cgroups here' >&2; exit 1", "no cgroups here"),
            ("exit 7", "exit status: 7"),
            (
                "echo 'loads' >&2; exec sleep 60",
                "not ready after 0 s loads",
            ),
            ("yes no >&2", "no\nno"),
        ] {
            let error = awaited(script).unwrap_err().to_string();
            assert!(
                error.starts_with("the host did not start") && error.contains(words),
                "{script}: {}",
                &error[..error.len().min(200)]
            );
        }
    }
}
