//! The runtime bundle that this executable belongs to, and the host in it.
//!
//! The host runs on the loader and C library of its own bundle, found beside this executable, so that a bundle works
//! on any distribution and wherever it is unpacked.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use command_fds::{CommandFdExt as _, FdMapping};
use shim_protocol::host::{HostArguments, SOCKET_FD};

/// Variables that a host needs of containerd's environment. The rest is not its business; `LD_*` least of all.
const ENVIRONMENT: &[&str] = &["TTRPC_ADDRESS", "PATH", "RUST_LOG"];

#[cfg(target_arch = "x86_64")]
const LOADER: &str = "ld-linux-x86-64.so.2";
#[cfg(target_arch = "aarch64")]
const LOADER: &str = "ld-linux-aarch64.so.1";

/// An unpacked runtime bundle.
#[derive(Debug)]
pub(crate) struct Bundle {
    root: PathBuf,
}

impl Bundle {
    pub(crate) fn around_this_executable() -> Result<Self> {
        let executable = fs::read_link("/proc/self/exe").context("read /proc/self/exe")?;
        let root = executable.parent().and_then(Path::parent);
        Ok(Self { root: root.with_context(|| format!("{} lies in no runtime bundle", executable.display()))?.to_owned() })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The command that starts a host on the bundle's own loader and libraries, whatever the node has.
    ///
    /// # Errors
    /// When part of it is missing.
    pub(crate) fn host(&self) -> Result<Command> {
        let (host, libraries) = (self.root.join("bin/wasmedge-host"), self.root.join("lib"));
        let loader = libraries.join(LOADER);
        for file in [&host, &loader] {
            if !file.is_file() {
                bail!("{} is missing: the runtime bundle in {} is incomplete, install it again", file.display(), self.root.display());
            }
        }
        let mut command = Command::new(loader);
        command.arg("--inhibit-cache").arg("--argv0").arg("wasmedge-host").arg("--library-path").arg(libraries).arg(host);
        Ok(command)
    }
}

/// Runs `command`, which [`Bundle::host`] made, as a host with these arguments that accepts connections of `listener`.
///
/// It stays in containerd's control group, as shims do: containerd's service leaves them running when it is stopped.
pub(crate) fn spawn(mut command: Command, arguments: &HostArguments, listener: UnixListener) -> Result<()> {
    command.args(arguments.to_args());
    command.env_clear();
    command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    // Not the container's bundle, which containerd removes while the host goes on.
    command.current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
        .fd_mappings(vec![FdMapping { parent_fd: OwnedFd::from(listener), child_fd: SOCKET_FD }])
        .context("hand the socket to the host")?;
    command.spawn().map(drop).with_context(|| format!("start {}", command.get_program().display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_bundle_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Bundle { root: folder.path().to_owned() }.host().unwrap_err().to_string();
        assert!(error.contains("bin/wasmedge-host is missing"), "{error}");
    }
}
