//! The helper's process between its fork and its program.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;

use process_forker::{Failure, Step as _};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use crate::protocol::{HELPER_NAME, Launch, MAX_REQUEST, Message, Reply};
use crate::{kernel, programs};

/// The exit code of a process that did not become the helper.
const NEVER_RAN: u8 = 125;
/// The lowest priority (setpriority(2)).
const NICE: i32 = 19;
/// The stack of the main thread, in bytes: compilers recurse over a module's nesting.
const STACK_BYTES: u64 = 32 << 20;
/// The most open descriptors.
const DESCRIPTORS: u64 = 64;
/// Between the processor time at which the helper ends itself and that at which the kernel kills
/// it, in seconds.
const CPU_GRACE: u64 = 5;

/// The entry of the process: becomes the helper's program.
#[expect(
    clippy::needless_pass_by_value,
    reason = "entries own their control sockets"
)]
pub(crate) fn run(control: OwnedFd) -> u8 {
    let Err(failure) = launch(&control);
    let reply = Reply::Failed(failure.truncated());
    // The host sees the end of the process if it does not get this.
    let _ = Message::of(&reply).and_then(|message| message.send(&control));
    NEVER_RAN
}

/// Returns only if it fails.
fn launch(control: &OwnedFd) -> Result<std::convert::Infallible, Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).step(|| "die with the host")?;
    rustix::thread::set_name(HELPER_NAME).step(|| "name the process")?;
    let Launch {
        cgroup,
        output,
        command_line,
        cpu_seconds,
        data_bytes,
        file_bytes,
    } = Message::receive(control, MAX_REQUEST)
        .and_then(Message::value)
        .step(|| "receive the launch request")?;
    for file in cgroup {
        rustix::io::write(file.as_fd(), b"0").step(|| "join the helper's cgroup")?;
    }
    // Leaves the forker's group, which is killed with the forker.
    rustix::process::setsid().step(|| "begin a group of processes")?;
    let limits = [
        (Resource::Cpu, cpu_seconds, cpu_seconds + CPU_GRACE),
        (Resource::Data, data_bytes, data_bytes),
        (Resource::Fsize, file_bytes, file_bytes),
        (Resource::Stack, STACK_BYTES, STACK_BYTES),
        (Resource::Nofile, DESCRIPTORS, DESCRIPTORS),
        (Resource::Core, 0, 0),
        (Resource::Memlock, 0, 0),
    ];
    for (resource, current, maximum) in limits {
        let limit = Rlimit {
            current: Some(current),
            maximum: Some(maximum),
        };
        setrlimit(resource, limit).step(|| format!("limit {resource:?} to {current}"))?;
    }
    rustix::process::setpriority_process(None, NICE).step(|| "take the lowest priority")?;
    kernel::schedule_as_batch().step(|| "be scheduled as a batch job")?;
    kernel::use_disk_when_idle().step(|| "take the last place at the disk")?;
    rustix::stdio::dup2_stdin(control).step(|| "pass the control socket on")?;
    rustix::stdio::dup2_stdout(&output).step(|| "pass the standard output on")?;
    rustix::stdio::dup2_stderr(&output).step(|| "pass the standard error on")?;
    let mut command = programs::command(&command_line)
        .ok_or_else(|| Failure::of("start the compile helper", "it has no program"))?;
    let program = command.get_program().display().to_string();
    Err(Failure::of(format!("execute {program}"), command.exec()))
}
