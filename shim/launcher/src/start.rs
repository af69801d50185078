//! `start`: finds the host that serves this container's pod, or spawns it, and prints its address.
//!
//! The host runs on the loader and C library of its own bundle, found beside this executable, so that a bundle works
//! on any distribution and wherever it is unpacked.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use command_fds::{CommandFdExt as _, FdMapping};
use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::flags::Flags;

/// Where containerd's shims keep their sockets.
const SOCKETS: &str = "/run/containerd/s";
/// The descriptor on which a host finds its listening socket (containerd's shim contract).
const SOCKET_FD: i32 = 3;
/// Variables that a host needs of containerd's environment. The rest is not its business; `LD_*` least of all.
const ENVIRONMENT: &[&str] = &["TTRPC_ADDRESS", "PATH", "RUST_LOG"];

/// Finds or spawns the host; returns its address for containerd.
pub(crate) fn start(flags: &Flags) -> Result<Vec<u8>> {
    let bundle = std::env::current_dir().context("read the working directory, which is the container's bundle")?;
    let address = Address::of(flags, &group(&bundle, &flags.id)?);
    fs::create_dir_all(SOCKETS).with_context(|| format!("make {SOCKETS}"))?;
    // Two launchers of one pod at once: the second finds the host that the first spawned.
    let lock = fs::File::create(address.lock_file()).with_context(|| format!("make {}", address.lock_file().display()))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno).context("lock the pod's socket")?;
    if UnixStream::connect(&address.socket).is_err() {
        let listener = listen(&address.socket)?;
        spawn(flags, &Installation::around_this_executable()?, listener)?;
    }
    // containerd and the host look for the address in the bundle.
    let file = bundle.join("address");
    fs::write(&file, address.to_string()).with_context(|| format!("write {}", file.display()))?;
    Ok(address.to_string().into_bytes())
}

/// What became of the host of a bundle.
#[derive(Debug)]
pub(crate) enum Host {
    /// It serves.
    Listens,
    /// Nobody listens at its address.
    Gone(Address),
    /// The bundle has no spec, so it does not say which host it belonged to.
    Unknown,
}

/// Looks for the host of `bundle`.
pub(crate) fn host(flags: &Flags, bundle: &Path) -> Result<Host> {
    let group = match group(bundle, &flags.id) {
        // containerd calls delete also for bundles that it never finished, and while it removes them.
        Err(error) if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound) => {
            return Ok(Host::Unknown);
        }
        result => result?,
    };
    let address = Address::of(flags, &group);
    Ok(if UnixStream::connect(&address.socket).is_ok() { Host::Listens } else { Host::Gone(address) })
}

/// Containers of one pod share a host; one that CRI did not start has its own.
fn group(bundle: &Path, id: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Spec {
        #[serde(default)]
        annotations: std::collections::HashMap<String, String>,
    }
    let file = bundle.join("config.json");
    let text = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    let spec: Spec = serde_json::from_slice(&text).with_context(|| format!("{} is no OCI runtime spec", file.display()))?;
    Ok(spec.annotations.get("io.kubernetes.cri.sandbox-id").cloned().unwrap_or_else(|| id.to_owned()))
}

/// Where a pod's host listens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Address {
    socket: PathBuf,
}

impl Address {
    /// One address for each containerd, namespace and pod; hashed, because a socket's path has at most 108 bytes.
    fn of(flags: &Flags, group: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [&flags.address, &flags.namespace, group] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        Self { socket: Path::new(SOCKETS).join(format!("{:x}", hash.finalize())) }
    }

    fn lock_file(&self) -> PathBuf {
        self.socket.with_extension("lock")
    }

    /// Removes the socket and its lock file; what is gone already is fine.
    pub(crate) fn remove(&self) -> Result<()> {
        for file in [&self.socket, &self.lock_file()] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("remove {}", file.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unix://{}", self.socket.display())
    }
}

/// Listens on `socket`, in place of a host that died there. Called with the pod's lock held.
fn listen(socket: &Path) -> Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != ErrorKind::NotFound => bail!("remove the dead socket {}: {error}", socket.display()),
        _ => {}
    }
    UnixListener::bind(socket).with_context(|| format!("listen on {}", socket.display()))
}

/// The runtime bundle that this executable belongs to.
#[derive(Debug)]
struct Installation {
    root: PathBuf,
}

impl Installation {
    fn around_this_executable() -> Result<Self> {
        let executable = fs::read_link("/proc/self/exe").context("read /proc/self/exe")?;
        let root = executable.parent().and_then(Path::parent);
        Ok(Self { root: root.with_context(|| format!("{} lies in no runtime bundle", executable.display()))?.to_owned() })
    }

    /// The host on the bundle's own loader and libraries, whatever the node has.
    fn host(&self) -> Result<Command> {
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

#[cfg(target_arch = "x86_64")]
const LOADER: &str = "ld-linux-x86-64.so.2";
#[cfg(target_arch = "aarch64")]
const LOADER: &str = "ld-linux-aarch64.so.1";

fn spawn(flags: &Flags, installation: &Installation, listener: UnixListener) -> Result<()> {
    let mut command = installation.host()?;
    command.args(["-namespace", &flags.namespace, "-id", &flags.id, "-address", &flags.address]);
    if flags.debug {
        command.arg("-debug");
    }
    command.env_clear();
    command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
        .fd_mappings(vec![FdMapping { parent_fd: OwnedFd::from(listener), child_fd: SOCKET_FD }])
        .context("hand the socket to the host")?;
    command.spawn().map(drop).with_context(|| format!("start the host of the runtime bundle in {}", installation.root.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::Verb;

    fn flags(namespace: &str) -> Flags {
        Flags { verb: Verb::Start, namespace: namespace.to_owned(), id: "c1".to_owned(), address: "/s".to_owned(), debug: false }
    }

    fn bundle(config: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), config).unwrap();
        folder
    }

    #[test]
    fn containers_of_a_pod_share_an_address_and_others_do_not() {
        let in_pod = bundle(r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod1"}}"#);
        let alone = bundle("{}");
        assert_eq!(group(in_pod.path(), "c1").unwrap(), "pod1");
        assert_eq!(group(alone.path(), "c1").unwrap(), "c1");
        assert_eq!(Address::of(&flags("a"), "pod1"), Address::of(&flags("a"), "pod1"));
        assert_ne!(Address::of(&flags("a"), "pod1"), Address::of(&flags("b"), "pod1"));
        assert!(Address::of(&flags("a"), "pod1").socket.as_os_str().len() < 108);
    }

    #[test]
    fn a_bundle_without_a_spec_is_named() {
        let error = format!("{:#}", group(Path::new("/nowhere"), "c1").unwrap_err());
        assert!(error.contains("/nowhere/config.json"), "{error}");
        assert!(format!("{:#}", group(bundle("[").path(), "c1").unwrap_err()).contains("no OCI runtime spec"));
    }

    #[test]
    fn a_bundle_that_is_gone_says_of_no_host() {
        assert!(matches!(host(&flags("a"), Path::new("/nowhere")).unwrap(), Host::Unknown));
        assert!(matches!(host(&flags("a"), bundle("{}").path()).unwrap(), Host::Gone(_)));
    }

    #[test]
    fn an_incomplete_installation_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Installation { root: folder.path().to_owned() }.host().unwrap_err().to_string();
        assert!(error.contains("bin/wasmedge-host is missing"), "{error}");
    }

    #[test]
    fn a_dead_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        drop(UnixListener::bind(&socket).unwrap());
        let _listener = listen(&socket).unwrap();
        UnixStream::connect(&socket).unwrap();
    }
}
