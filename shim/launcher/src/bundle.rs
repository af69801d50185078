//! The runtime bundle of this executable, and the host in it.
//!
//! The host runs on the loader and C library of its own bundle, found beside this executable, so
//! that a bundle works on any distribution and wherever it is unpacked.

use std::fs::{self, File};
use std::io::{self, PipeReader, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use command_fds::{CommandFdExt as _, FdMapping};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_reconfigure,
    fsconfig_set_flag, fsmount, fsopen,
};
use shim_protocol::host::{HostArguments, LOADER, READY, SOCKET_FD};

/// The environment variables that a host needs from containerd. No others are passed on, least of
/// all `LD_*`.
const ENVIRONMENT: &[&str] = &["TTRPC_ADDRESS", "PATH"];

/// How long a host may take to become ready: a large engine on a slow disk, on a node that is
/// starting hundreds of pods.
const READY_TIMEOUT: Duration = Duration::from_mins(1);
/// Longer than any error text of a host.
const MAX_ERROR_TEXT: usize = 8 << 10;

/// An unpacked runtime bundle.
#[derive(Debug)]
pub(crate) struct Bundle {
    root: PathBuf,
    launcher: PathBuf,
}

impl Bundle {
    pub(crate) fn of_this_executable() -> Result<Self> {
        let executable = fs::read_link("/proc/self/exe").context("read /proc/self/exe")?;
        let root = executable.parent().and_then(Path::parent);
        Ok(Self {
            root: root
                .with_context(|| format!("{} is not in a runtime bundle", executable.display()))?
                .to_owned(),
            launcher: executable,
        })
    }

    pub(crate) fn launcher(&self) -> &Path {
        &self.launcher
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the command that starts a host on the bundle's own loader and libraries, regardless
    /// of the node's.
    ///
    /// # Errors
    /// If a file of the bundle is missing.
    pub(crate) fn host(&self) -> Result<HostCommand> {
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
        let folder = read_only_copy(&loader)
            .with_context(|| format!("copy {} to a read-only file system", loader.display()))?;
        let mut command = Command::new(format!("/proc/self/fd/{}/{LOADER}", folder.as_raw_fd()));
        command
            .arg("--inhibit-cache")
            .arg("--argv0")
            .arg("wasmedge-host")
            .arg("--library-path")
            .arg(libraries)
            .arg(host);
        Ok(HostCommand {
            command,
            loader,
            _folder: folder,
        })
    }
}

/// The command that starts a host.
#[derive(Debug)]
pub(crate) struct HostCommand {
    command: Command,
    /// The loader in the bundle, for error messages.
    loader: PathBuf,
    /// Open until the host is started: the path of its executable leads through it.
    _folder: OwnedFd,
}

/// Copies the loader to a read-only file system in memory, and returns the folder that holds it.
///
/// The host and every process that it forks have this copy as their executable. A program in a pod
/// can open that file through `/proc/PID/exe`, and must not be able to change what the node runs.
fn read_only_copy(loader: &Path) -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let folder = fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let copy = openat(&folder, LOADER, flags, Mode::from_raw_mode(0o755))?;
    io::copy(&mut File::open(loader)?, &mut File::from(copy))?;
    fsconfig_set_flag(context.as_fd(), "ro")?;
    fsconfig_reconfigure(context.as_fd())?;
    // Not the number that the host's socket gets.
    Ok(fcntl_dupfd_cloexec(&folder, SOCKET_FD + 1)?)
}

/// Runs `command`, which [`Bundle::host`] made, as a host with these arguments on the socket
/// `listener`, and waits until it is ready: only its launcher can report cause a host cannot serve.
///
/// The host stays in containerd's control group, as shims do: containerd's service leaves them
/// running when it is stopped.
pub(crate) fn spawn(
    command: HostCommand,
    arguments: &HostArguments,
    listener: UnixListener,
) -> Result<()> {
    let HostCommand {
        mut command,
        loader,
        _folder,
    } = command;
    command.args(arguments.to_args());
    command.env_clear();
    command.envs(
        ENVIRONMENT
            .iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?))),
    );
    // Not the container's bundle, which containerd removes while the host runs.
    command.current_dir("/");
    let (output, stderr) = std::io::pipe().context("create a pipe for the host's output")?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr);
    command
        .fd_mappings(vec![FdMapping {
            parent_fd: OwnedFd::from(listener),
            child_fd: SOCKET_FD,
        }])
        .context("pass the socket to the host")?;
    let host = command
        .spawn()
        .with_context(|| format!("start a copy of {}", loader.display()))?;
    // It holds the write end of the host's output.
    drop(command);
    await_ready(host, output, READY_TIMEOUT)
}

/// Waits until `host` writes [`READY`]. Otherwise kills it; its output is then the error.
fn await_ready(mut host: Child, mut output: PipeReader, timeout: Duration) -> Result<()> {
    let deadline = Instant::now() + timeout;
    let mut text = Vec::new();
    let cause = loop {
        if text.ends_with(READY.as_bytes()) {
            return Ok(());
        }
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()))
            .context("convert the timeout")?;
        let mut part = [0; 4 << 10];
        match poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&left)) {
            Ok(0) => break Some(format!("it is not ready after {} s", timeout.as_secs())),
            Ok(_) if text.len() > MAX_ERROR_TEXT => break None,
            Ok(_) => match output.read(&mut part).context("read the host's output")? {
                0 => break None,
                length => text.extend_from_slice(&part[..length]),
            },
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for the host"),
        }
    };
    // It may have exited by itself.
    let _ = host.kill();
    let status = host.wait().context("wait for the host to exit")?;
    let text = String::from_utf8_lossy(&text);
    match (cause, text.trim()) {
        (Some(cause), text) => bail!("the host did not start: {cause} {text}"),
        (None, "") => bail!("the host did not start and wrote no error ({status})"),
        (None, text) => bail!("the host did not start: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_bundle_is_named_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = Bundle {
            root: folder.path().to_owned(),
            launcher: PathBuf::new(),
        }
        .host()
        .unwrap_err()
        .to_string();
        assert!(error.contains("bin/wasmedge-host is missing"), "{error}");
    }

    /// Awaits a host that runs this script.
    fn awaited(script: &str) -> Result<()> {
        let (output, stderr) = std::io::pipe().unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        let host = command.spawn().unwrap();
        drop(command);
        await_ready(host, output, Duration::from_millis(500))
    }

    #[test]
    fn launcher_waits_until_host_is_ready_or_reports_its_error() {
        awaited(&format!(
            "echo a warning >&2; printf '{}' >&2; exec 2>&-; exec sleep 5",
            READY.escape_default()
        ))
        .unwrap();
        for (script, text) in [
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
                error.starts_with("the host did not start") && error.contains(text),
                "{script}: {}",
                &error[..error.len().min(200)]
            );
        }
    }
}
