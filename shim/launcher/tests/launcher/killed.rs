//! Running a program that is killed at one of its system calls.

use std::fs;
use std::process::{Command, Stdio};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// The end of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was killed before the system call of that number.
    Killed,
    /// It exited before.
    Ended,
}

/// Runs `command` until it is about to make its system call of this number, counted from its first,
/// and kills it there. `command` has a program, arguments, a working directory and a standard
/// input.
pub(crate) fn kill_before(call: usize, command: &mut Command) -> Fate {
    // A shell that waits for a signal to continue, and then becomes the program.
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    assert!(
        Command::new("mkfifo")
            .arg(&gate)
            .status()
            .unwrap()
            .success()
    );
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "read go < \"$0\"; exec \"$@\""])
        .arg(&gate)
        .arg(command.get_program())
        .args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    let input = command
        .get_envs()
        .find(|(name, _)| *name == INPUT)
        .and_then(|(_, file)| file);
    shell
        .stdin(fs::File::open(input.unwrap()).unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = shell.spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    ptrace::attach(pid).unwrap();
    // It may still be becoming the shell, which is reported to a tracer as well.
    while waitpid(pid, None).unwrap() != WaitStatus::Stopped(pid, Signal::SIGSTOP) {
        ptrace::cont(pid, None).unwrap();
    }
    ptrace::setoptions(
        pid,
        Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_EXITKILL,
    )
    .unwrap();
    // Opened for both directions, it neither waits for the shell nor loses what was written.
    let mut opened = fs::File::options()
        .read(true)
        .write(true)
        .open(&gate)
        .unwrap();
    std::io::Write::write_all(&mut opened, b"go\n").unwrap();
    let fate = step(pid, call);
    // A process that has exited was waited for: then both do nothing, or return that there is no
    // such process.
    let _ = child.kill();
    let _ = child.wait();
    fate
}

/// The variable in which [`kill_before`] finds the file for standard input, which a `Command` does
/// not expose.
pub(crate) const INPUT: &str = "STANDARD_INPUT";

fn step(pid: Pid, call: usize) -> Fate {
    let (mut entering, mut made, mut signal) = (None, 0, None);
    loop {
        ptrace::syscall(pid, signal.take()).unwrap();
        match waitpid(pid, None).unwrap() {
            // The program is there; its execve is yet to return.
            WaitStatus::PtraceEvent(..) => entering = Some(false),
            WaitStatus::PtraceSyscall(_) => match &mut entering {
                Some(entering @ false) => *entering = true,
                Some(entering @ true) => {
                    if made == call {
                        return Fate::Killed;
                    }
                    (made, *entering) = (made + 1, false);
                }
                None => {}
            },
            WaitStatus::Stopped(_, sent) => signal = Some(sent),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Fate::Ended,
            other => panic!("{other:?}"),
        }
    }
}
