//! A zygote, and guests in forks of it.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use guest_sandbox::seccomp::{FilterCache, SeccompFilter};
use process_forker::wire::{MAX_REPLY, MAX_REQUEST, Message};
use process_forker::{Child, Failure, Forkers, SpawnRequest, WireFd, Zygote};
use rustix::process::{Resource, Rlimit, WaitId, WaitIdOptions, setrlimit, waitid};
use serde::{Deserialize, Serialize};
use wasmtime_engine::compile::precompile;
use wasmtime_engine::run::{Context, Ended, Folder, NotRunnable, load, run, warm};

/// The build of the zygote.
pub(crate) const BUILD: &str = "0123456789abcdef";
/// The exit code of a process that reported its guest's end.
const REPORTED: i32 = 0;

/// What the guests of a test have in common.
pub(crate) struct World {
    zygote: Zygote,
    filter: SeccompFilter,
    /// The folder that guests have as `/`.
    root: tempfile::TempDir,
}

/// A description of a guest.
#[derive(Clone)]
pub(crate) struct Guest {
    artifact: Vec<u8>,
    calls: Vec<String>,
    args: Vec<String>,
    env: Vec<String>,
    address_space: Option<u64>,
}

/// A guest in its process.
pub(crate) struct Running {
    child: Child,
    control: UnixStream,
    stdout: File,
    stderr: File,
}

/// A guest that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) report: Report,
    pub(crate) stdout: Vec<u8>,
}

/// Standard input and output of a guest.
pub(crate) struct Streams {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    Refused(String),
    Exited(u32),
    Trapped(String),
    StackExhausted,
    NotRunnable(String),
}

#[derive(Serialize, Deserialize)]
struct Task {
    artifact: WireFd,
    stdin: WireFd,
    stdout: WireFd,
    stderr: WireFd,
    root: PathBuf,
    filter: SeccompFilter,
    calls: Vec<String>,
    args: Vec<String>,
    env: Vec<String>,
    address_space: Option<u64>,
}

impl World {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            zygote: Zygote::new(Arc::new(Forkers::start()?), prepare),
            filter: FilterCache::new()?.engine(),
            root: tempfile::tempdir()?,
        })
    }

    /// The folder that guests have as `/`.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Spawns a process with a control socket, from the zygote.
    pub(crate) fn spawn(&self, entry: fn(OwnedFd) -> u8) -> Result<(Child, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = self
            .zygote
            .spawn(&SpawnRequest::new(entry, theirs.into(), 0))?;
        Ok((child, ours))
    }

    /// Starts a guest.
    pub(crate) fn start(&self, guest: &Guest, streams: Streams) -> Result<Running> {
        let mut artifact = tempfile::tempfile()?;
        std::io::Write::write_all(&mut artifact, &guest.artifact)?;
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let (child, control) = self.spawn(guest_process)?;
        let task = Task {
            artifact: WireFd::new(artifact),
            stdin: WireFd::new(streams.stdin),
            stdout: WireFd::new(streams.stdout),
            stderr: WireFd::new(stderr.try_clone()?),
            root: self.root.path().to_owned(),
            filter: self.filter.clone(),
            calls: guest.calls.clone(),
            args: guest.args.clone(),
            env: guest.env.clone(),
            address_space: guest.address_space,
        };
        Message::of(&task)?.send(&control)?;
        Ok(Running {
            child,
            control,
            stdout,
            stderr,
        })
    }

    /// Runs a guest without input to its end.
    pub(crate) fn run(&self, guest: &Guest) -> Result<Finished> {
        let input = File::open("/dev/null")?;
        self.run_with_input(guest, input.into())
    }

    /// Runs a guest to its end; its output goes to a file.
    pub(crate) fn run_with_input(&self, guest: &Guest, stdin: OwnedFd) -> Result<Finished> {
        let output = tempfile::tempfile()?;
        let streams = Streams {
            stdin,
            stdout: output.try_clone()?.into(),
        };
        let running = self.start(guest, streams)?;
        Running {
            stdout: output,
            ..running
        }
        .finish()
    }
}

impl Guest {
    /// A guest of this WebAssembly text.
    pub(crate) fn text(text: &str) -> Result<Self> {
        Self::binary(&wat::parse_str(text)?)
    }

    /// A guest of this binary.
    pub(crate) fn binary(bytes: &[u8]) -> Result<Self> {
        Ok(Self::artifact(precompile(bytes, BUILD)?))
    }

    /// A guest of this artifact.
    pub(crate) fn artifact(artifact: Vec<u8>) -> Self {
        Self {
            artifact,
            calls: vec!["_start".to_owned()],
            args: vec!["guest".to_owned()],
            env: Vec::new(),
            address_space: None,
        }
    }

    pub(crate) fn calls(mut self, calls: &[&str]) -> Self {
        self.calls = owned(calls);
        self
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.args = owned(args);
        self
    }

    /// Limits the addresses of its process (RLIMIT_AS).
    pub(crate) fn address_space(mut self, bytes: u64) -> Self {
        self.address_space = Some(bytes);
        self
    }

    pub(crate) fn env(mut self, env: &[&str]) -> Self {
        self.env = owned(env);
        self
    }
}

impl Running {
    /// The number of the guest's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.pid
    }

    /// Waits for the guest's end.
    pub(crate) fn finish(mut self) -> Result<Finished> {
        let reply = Message::receive(&self.control, MAX_REPLY).and_then(Message::value::<Report>);
        let status = waitid(
            WaitId::PidFd(self.child.pidfd.as_fd()),
            WaitIdOptions::EXITED,
        )?
        .context("it has ended")?;
        let text = |file: &mut File| -> Result<Vec<u8>> {
            let mut bytes = Vec::new();
            file.rewind()?;
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let (stdout, stderr) = (text(&mut self.stdout)?, text(&mut self.stderr)?);
        match reply {
            Ok(report) if status.exit_status() == Some(REPORTED) => Ok(Finished { report, stdout }),
            reply => bail!(
                "{reply:?}, {status:?}, output {:?}, errors {:?}",
                String::from_utf8_lossy(&stdout),
                String::from_utf8_lossy(&stderr)
            ),
        }
    }
}

impl Finished {
    /// The output of a guest that exited with this code.
    pub(crate) fn output(self, code: u32) -> Result<String> {
        ensure!(self.report == Report::Exited(code), "{self:?}");
        Ok(String::from_utf8(self.stdout)?)
    }

    /// The text of the guest's trap.
    pub(crate) fn trap(self) -> Result<String> {
        match self.report {
            Report::Trapped(text) => Ok(text),
            _ => bail!("{self:?}"),
        }
    }

    /// The text with which the guest was refused.
    pub(crate) fn refusal(self) -> Result<String> {
        match self.report {
            Report::Refused(text) => Ok(text),
            _ => bail!("{self:?}"),
        }
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// Warms the zygote, and does what an innocent user of random numbers might do there.
#[expect(clippy::unnecessary_wraps, reason = "preparations can fail")]
fn prepare() -> Result<(), Failure> {
    warm(BUILD);
    drop(wasmtime_wasi::thread_rng());
    Ok(())
}

/// The entry of a guest's process.
#[expect(
    clippy::needless_pass_by_value,
    reason = "entries own their control sockets"
)]
fn guest_process(control: OwnedFd) -> u8 {
    let Ok(task) = Message::receive(&control, MAX_REQUEST).and_then(Message::value::<Task>) else {
        return 1;
    };
    let report = perform(task).unwrap_or_else(|error| Report::Refused(format!("{error:#}")));
    let sent = Message::of(&report).and_then(|reply| reply.send(&control));
    u8::from(sent.is_err())
}

fn perform(task: Task) -> Result<Report> {
    let Task {
        artifact,
        stdin,
        stdout,
        stderr,
        root,
        filter,
        calls,
        args,
        env,
        address_space,
    } = task;
    rustix::stdio::dup2_stderr(&stderr)?;
    rustix::stdio::dup2_stdin(&stdin)?;
    rustix::stdio::dup2_stdout(&stdout)?;
    let path = if rustix::process::geteuid().is_root() {
        rustix::process::chroot(&root)?;
        rustix::process::chdir("/")?;
        PathBuf::from("/")
    } else {
        root
    };
    if let Some(bytes) = address_space {
        let limit = Rlimit {
            current: Some(bytes),
            maximum: Some(bytes),
        };
        setrlimit(Resource::As, limit)?;
    }
    rustix::thread::set_no_new_privs(true)?;
    filter.install()?;
    let folders = [Folder {
        name: "/",
        path: &path,
    }];
    let context = Context {
        args: &args,
        env: &env,
        folders: &folders,
    };
    let prepared =
        load(File::from(artifact.into_inner())).and_then(|loaded| loaded.prepare(calls, &context));
    Ok(match prepared.map(|prepared| run(prepared, || {})) {
        Ok(Ended::Exited(code)) => Report::Exited(code),
        Ok(Ended::Trapped(text)) => Report::Trapped(text),
        Ok(Ended::StackExhausted) => Report::StackExhausted,
        Ok(Ended::NotRunnable(text)) => Report::NotRunnable(text),
        Err(
            refusal @ (NotRunnable::Engine(_)
            | NotRunnable::Artifact(_)
            | NotRunnable::Memory(_)
            | NotRunnable::Link(_)
            | NotRunnable::Context(_)),
        ) => Report::Refused(refusal.to_string()),
    })
}

/// A module with functions of WASI, `$print` (where, length) and `$number` (of 32 bits, in decimal,
/// with a newline). Memory below 1024 is theirs.
pub(crate) fn with_wasi(body: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $fd_fdstat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread" (func $fd_pread (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory" (func $path_create_directory (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_set_times" (func $path_filestat_set_times (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $path_unlink_file (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (memory (export "memory") 4)
  (func $write (param $to i32) (param $where i32) (param $length i32) (result i32)
    (i32.store (i32.const 0) (local.get $where))
    (i32.store (i32.const 4) (local.get $length))
    (call $fd_write (local.get $to) (i32.const 0) (i32.const 1) (i32.const 8)))
  (func $print (param $where i32) (param $length i32)
    (if (call $write (i32.const 1) (local.get $where) (local.get $length)) (then unreachable)))
  (func $number (param $number i32)
    (local $where i32)
    (local.set $where (i32.const 63))
    (i32.store8 (i32.const 63) (i32.const 10))
    (loop $digits
      (local.set $where (i32.sub (local.get $where) (i32.const 1)))
      (i32.store8 (local.get $where)
        (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
      (local.set $number (i32.div_u (local.get $number) (i32.const 10)))
      (br_if $digits (local.get $number)))
    (call $print (local.get $where) (i32.sub (i32.const 64) (local.get $where))))
  {body})"#
    )
}
