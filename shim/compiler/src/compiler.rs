//! The start of a helper.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use container_cgroup::{Hierarchies, JoinMethod};
use process_forker::{Failure, Forkers, SpawnRequest, Step as _, WireFd};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::cgroup::HelperCgroup;
use crate::compiling::{Compiling, Helper};
use crate::protocol::{Job, Launch, Message};
use crate::{CompileError, CompileRequest, Programs, launch};

/// How long a new process may take to read its requests.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How much private memory the helper may reserve, in relation to what it may use.
const DATA_FACTOR: u64 = 2;
/// What the kernel kills first when the node has no memory left (proc_pid_oom_score_adj(5)).
const OOM_SCORE_ADJ: &str = "900";
/// The namespaces that a helper has of its own.
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWPID;

/// Starts helpers.
#[derive(Debug)]
pub struct Compiler {
    forkers: Arc<Forkers>,
    hierarchies: Hierarchies,
    programs: Programs,
}

impl Compiler {
    /// Makes a compiler of a host: its forkers, the machine's cgroups, and the helper's programs.
    pub fn new(forkers: Arc<Forkers>, hierarchies: Hierarchies, programs: Programs) -> Self {
        Self {
            forkers,
            hierarchies,
            programs,
        }
    }

    /// Starts a helper, a child of this process. Blocks until it has its request.
    ///
    /// # Errors
    /// If that fails: then nothing of the helper is left.
    pub fn start(&self, request: CompileRequest) -> Result<Compiling, CompileError> {
        let CompileRequest {
            backend,
            build,
            module,
            form,
            origin,
            sha256,
            max_module_bytes,
            copy_to,
            draft,
            limits,
            cgroup_driver,
        } = request;
        let failed = |failure| CompileError::Step {
            origin: origin.clone(),
            failure,
        };
        let job = Job {
            backend,
            build,
            module: WireFd::new(module),
            form,
            sha256,
            max_module_bytes,
            copy_to: copy_to.map(WireFd::new),
            draft: WireFd::new(draft),
        };
        let (output, theirs) = output().step(|| "make a pipe").map_err(failed)?;
        let cgroup = HelperCgroup::make(&self.hierarchies, cgroup_driver, limits.memory)
            .map_err(CompileError::Cgroup)?;
        let (helper, files) = self.fork(cgroup, &failed)?;
        let launch = Launch {
            cgroup: files.into_iter().map(WireFd::new).collect(),
            output: WireFd::new(theirs),
            command_line: self.programs.command_line(backend),
            cpu_seconds: limits.cpu.as_secs().max(1),
            data_bytes: limits.memory.saturating_mul(DATA_FACTOR),
            file_bytes: limits.output,
        };
        let sent = Message::of(&launch)
            .and_then(|message| message.send(helper.control()))
            .and_then(|()| Message::of(&job)?.send(helper.control()));
        // One that failed before it read all of it has reported why, or will.
        if let Err(error) = sent {
            tracing::debug!(%error, "the compile helper did not take its request");
        }
        Ok(Compiling::new(
            helper,
            output,
            origin,
            backend,
            limits,
            Instant::now() + limits.wall(),
        ))
    }

    /// Forks the process, which waits for its requests, into the cgroup; returns the files through
    /// which it is to join, if it is not there yet.
    fn fork(
        &self,
        cgroup: HelperCgroup,
        failed: &dyn Fn(Failure) -> CompileError,
    ) -> Result<(Helper, Vec<OwnedFd>), CompileError> {
        let (control, theirs) = sockets().step(|| "make a socket").map_err(failed)?;
        let namespaces = u64::from(NAMESPACES.unsigned_abs());
        let mut request = SpawnRequest::new(launch::run, theirs, namespaces);
        let files = match cgroup.join_method().map_err(CompileError::Cgroup)? {
            JoinMethod::Tasks(files) => files,
            JoinMethod::Folder(folder) => {
                request = request.in_cgroup(folder);
                Vec::new()
            }
            JoinMethod::Scope => Vec::new(),
        };
        let child = self.forkers.spawn(&request).map_err(CompileError::Spawn)?;
        // This end must be the child's alone, so that its end is seen.
        drop(request);
        // From here on the process is killed if this fails.
        let helper = Helper::new(child, control, cgroup);
        helper
            .cgroup()
            .joined(helper.pid())
            .map_err(CompileError::Cgroup)?;
        let file = format!("/proc/{}/oom_score_adj", helper.pid());
        std::fs::write(&file, OOM_SCORE_ADJ)
            .step(|| format!("write {OOM_SCORE_ADJ} to {file}"))
            .map_err(failed)?;
        Ok((helper, files))
    }
}

/// Makes the pipe for what the helper prints. It loses what does not fit: nothing reads it before
/// the helper's end.
fn output() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    fcntl_setfl(&theirs, OFlags::NONBLOCK)?;
    Ok((ours, theirs))
}

fn sockets() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    set_socket_timeout(&ours, Timeout::Send, Some(SEND_TIMEOUT))?;
    Ok((ours, theirs))
}
