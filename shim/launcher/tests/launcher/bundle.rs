//! A runtime bundle with the launcher and a stand-in for the host, which only keeps its socket.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use containerd_shim_protos::bootstrap_api::BootstrapResult;
use containerd_shim_protos::protobuf::Message as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shim_protocol::host::READY;
use shim_protocol::wire::Message;

#[cfg(target_arch = "x86_64")]
const LOADER: &str = "ld-linux-x86-64.so.2";
#[cfg(target_arch = "aarch64")]
const LOADER: &str = "ld-linux-aarch64.so.1";
/// Longer than any step here.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// The bundle; dropping it ends its hosts.
pub(crate) struct Bundle {
    folder: tempfile::TempDir,
}

impl Bundle {
    pub(crate) fn unpack() -> Self {
        let bundle = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for folder in ["bin", "lib", "container"] {
            fs::create_dir(bundle.path(folder)).unwrap();
        }
        copy(
            Path::new(env!("CARGO_BIN_EXE_containerd-shim-wasmedge-v1")),
            &bundle.launcher(),
        );
        fs::write(bundle.path("bin/wasmedge-host"), "").unwrap();
        fs::write(bundle.path("container/config.json"), "{}").unwrap();
        // Waits at a pipe that is never opened, without a child that would outlive it.
        assert!(
            Command::new("mkfifo")
                .arg(bundle.path("never"))
                .status()
                .unwrap()
                .success()
        );
        let script = format!(
            "#!/bin/sh\ntrap '' PIPE\n(pwd; env; for a; do echo \"$a\"; done; readlink \
             /proc/$$/fd/0 /proc/$$/fd/3) > {root}/host-$$.new\n\
             mv {root}/host-$$.new {root}/host-$$\necho {READY} >&2\nexec 2>/dev/null\nread never \
             < {root}/never\n",
            root = bundle.folder.path().display(),
            READY = READY.trim_end(),
        );
        fs::write(bundle.script(), script).unwrap();
        bundle.compile_loader();
        bundle
    }

    /// Compiles a loader that runs the script. The launcher starts a copy of the loader through a
    /// descriptor that is closed then, so the loader cannot be a script itself.
    fn compile_loader(&self) {
        let source = self.path("loader.c");
        let text = format!(
            "#include <unistd.h>\nint main(int count, char **args) {{\n    args[0] = \"{}\";\n    \
             char *all[count + 2];\n    all[0] = \"/bin/sh\";\n    \
             for (int at = 0; at <= count; at++) all[at + 1] = args[at];\n    \
             return execv(all[0], all);\n}}\n",
            self.script().display()
        );
        fs::write(&source, text).unwrap();
        let compiled = Command::new("cc")
            .arg("-o")
            .args([self.loader(), source])
            .status();
        assert!(compiled.unwrap().success());
    }

    /// The script that stands in for a host.
    pub(crate) fn script(&self) -> PathBuf {
        self.path("host.sh")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn launcher(&self) -> PathBuf {
        self.path("bin/containerd-shim-wasmedge-v1")
    }

    pub(crate) fn loader(&self) -> PathBuf {
        self.path("lib").join(LOADER)
    }

    /// The input that containerd 2.4 would write: with it, sockets are in this bundle's own folder.
    pub(crate) fn input(&self, id: &str) -> PathBuf {
        let file = self.path(&format!("input-{id}"));
        let message = Message::default()
            .text(1, id)
            .text(2, "test")
            .text(9, self.path("s").to_str().unwrap());
        fs::write(&file, message.into_bytes()).unwrap();
        file
    }

    pub(crate) fn arguments(id: &str) -> [String; 7] {
        [
            "-namespace",
            "test",
            "-address",
            "/c.sock",
            "-id",
            id,
            "start",
        ]
        .map(str::to_owned)
    }

    /// Returns the command `start` for container `id`.
    pub(crate) fn command(&self, id: &str) -> Command {
        let mut command = Command::new(self.launcher());
        command
            .args(Self::arguments(id))
            .current_dir(self.path("container"));
        command
            .stdin(fs::File::open(self.input(id)).unwrap())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `start`; returns the socket of the host.
    pub(crate) fn start(&self, id: &str) -> PathBuf {
        socket(&self.command(id).output().unwrap())
    }

    /// Returns the launchers of this bundle. A host has the launcher's path as an argument, and is
    /// none.
    pub(crate) fn launchers(&self) -> Vec<Pid> {
        let hosts = self.hosts();
        let mut launchers = running(&self.launcher());
        launchers.retain(|pid| !hosts.contains(pid));
        launchers
    }

    /// Returns the hosts of this bundle.
    pub(crate) fn hosts(&self) -> Vec<Pid> {
        running(&self.script())
    }

    /// Waits until exactly one host runs. A stand-in forks while it starts, and the fork looks like
    /// itself.
    pub(crate) fn wait_for_one_host(&self, when: &str) {
        eventually(&format!("there is one host {when}"), || {
            (self.hosts().len() == 1).then_some(())
        });
    }

    /// Returns what the only host found at its start, once it has written it.
    pub(crate) fn report_of_host(&self) -> Vec<String> {
        self.wait_for_one_host("that writes its report");
        let pid = self.hosts()[0];
        let file = self.path(&format!("host-{pid}"));
        eventually("the host writes its report", || {
            fs::read_to_string(&file).ok()
        })
        .lines()
        .map(str::to_owned)
        .collect()
    }

    /// Kills the hosts, and waits until they have exited.
    pub(crate) fn kill_hosts(&self) {
        for pid in self.hosts() {
            // A host that has just exited is fine.
            let _ = kill(pid, Signal::SIGKILL);
        }
        eventually("the hosts end", || self.hosts().is_empty().then_some(()));
    }

    pub(crate) fn files_of_sockets(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path("s"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        eventually("launchers end", || {
            self.launchers().is_empty().then_some(())
        });
        self.kill_hosts();
    }
}

/// Copies a program, in another process: other tests of this process fork, and a fork that has a
/// program open for writing keeps it from being executed.
fn copy(from: &Path, to: &Path) {
    assert!(
        Command::new("cp")
            .args([from, to])
            .status()
            .unwrap()
            .success()
    );
}

/// Returns the processes that have `file` as an argument.
fn running(file: &Path) -> Vec<Pid> {
    let name = file.to_str().unwrap().as_bytes();
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|word| word == name)
    })
    .map(Pid::from_raw)
    .collect()
}

/// Returns the socket that `start` printed, after checking that a process listens on it.
pub(crate) fn socket(output: &Output) -> PathBuf {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "",
        "containerd takes it for part of the reply"
    );
    let result = BootstrapResult::parse_from_bytes(&output.stdout).unwrap();
    assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
    let socket = PathBuf::from(result.address.strip_prefix("unix://").unwrap());
    UnixStream::connect(&socket).unwrap();
    socket
}

/// Polls until there is a result.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        match ask() {
            Some(answer) => return answer,
            None if started.elapsed() > TEST_TIMEOUT => {
                panic!("{what}: not within {} s", TEST_TIMEOUT.as_secs())
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}
