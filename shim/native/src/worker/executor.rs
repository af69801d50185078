//! The last steps inside the container's process, after libcontainer has set up its namespaces,
//! root and user.
//!
//! libcontainer calls `validate` and `setup_envs` while the process is being created and `exec`
//! once it is started, in one process.
#![expect(
    clippy::print_stderr,
    reason = "standard error is the container's, the only place where its user looks"
)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use libcontainer::workload::{
    Executor as LibcontainerExecutor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::unistd::execve;
use oci_spec::runtime::{Process, Spec};
use rustix::process::{Signal, ioctl_tiocsctty, set_parent_process_death_signal};

use super::confinement::Confinement;
use super::labels::Labels;
use super::program::{Program, environment};
use super::reporter::Reporter;
use crate::error::ProgramFault;
use crate::reply::Reply;
use crate::stdio::Terminal;

/// The exit code of a program that the kernel refuses to execute, as a shell has it.
const NOT_EXECUTABLE: u8 = 126;

/// Runs a native program in the container's process.
#[derive(Clone)]
pub(super) struct Executor(Rc<Parts>);

struct Parts {
    kind: Kind,
    reporter: Arc<Reporter>,
    terminal: Terminal,
    labels: RefCell<Labels>,
    program: RefCell<Option<Program>>,
    environment: RefCell<HashMap<String, String>>,
}

enum Kind {
    /// A container's first process: created, and started later by another request.
    First,
    /// A process in a running container: created and started at once.
    Exec(Option<Box<Confinement>>),
}

impl Executor {
    pub(super) fn of_a_container(
        reporter: Arc<Reporter>,
        terminal: Terminal,
        labels: Labels,
    ) -> Self {
        Self::new(Kind::First, reporter, terminal, labels)
    }

    pub(super) fn of_an_exec(
        reporter: Arc<Reporter>,
        terminal: Terminal,
        labels: Labels,
        confinement: Option<Confinement>,
    ) -> Self {
        Self::new(
            Kind::Exec(confinement.map(Box::new)),
            reporter,
            terminal,
            labels,
        )
    }

    fn new(kind: Kind, reporter: Arc<Reporter>, terminal: Terminal, labels: Labels) -> Self {
        let labels = RefCell::new(labels);
        Self(Rc::new(Parts {
            kind,
            reporter,
            terminal,
            labels,
            program: RefCell::default(),
            environment: RefCell::default(),
        }))
    }
}

impl LibcontainerExecutor for Executor {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let Parts {
            kind,
            reporter,
            terminal,
            labels,
            program,
            ..
        } = self.0.as_ref();
        let invalid = |reason: String| ExecutorValidationError::ArgValidationError(reason);
        let refuse = |fault: ProgramFault| {
            reporter.send(&Reply::Refused(fault.clone()));
            invalid(fault.to_string())
        };
        let found = process_of(spec).and_then(Program::find).map_err(refuse)?;
        program.replace(Some(found));
        labels.take().set().map_err(refuse)?;
        if *terminal == Terminal::Yes {
            // libcontainer has called setsid(2) in this process, so it may take a terminal.
            ioctl_tiocsctty(io::stdin())
                .map_err(|error| invalid(format!("cannot take the terminal: {error}")))?;
        }
        reset_signals();
        // Kept over the execve, except by a program that is set-uid or has capabilities of its own.
        // If such a program runs, or the container's filter does not allow this, the containers of
        // a lost host are killed through their cgroups.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        if reporter.is_host_gone() {
            return Err(invalid("the host ended meanwhile".to_owned()));
        }
        if let Kind::First = kind {
            // The host must see the end of the worker's socket, while this process waits for its
            // start.
            reporter.close();
        }
        Ok(())
    }

    fn setup_envs(&self, envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        self.0.environment.replace(envs);
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let Parts { kind, reporter, .. } = self.0.as_ref();
        let fault = self.run(spec);
        match kind {
            Kind::First => {
                eprintln!("{fault}");
                process_forker::exit(NOT_EXECUTABLE)
            }
            Kind::Exec(_) => {
                let text = fault.to_string();
                reporter.send(&Reply::Refused(fault));
                Err(ExecutorError::Execution(text.into()))
            }
        }
    }
}

impl Executor {
    /// Executes the program. Returns only if it cannot be executed: for example without its
    /// interpreter, or on another architecture.
    fn run(&self, spec: &Spec) -> ProgramFault {
        let Some(Program { file, arguments }) = self.0.program.take() else {
            return ProgramFault::NotExecutable("the process was not prepared".to_owned());
        };
        let prepared = process_of(spec)
            .and_then(|process| environment(process, self.0.environment.take()))
            .and_then(|environment| {
                match &self.0.kind {
                    Kind::Exec(Some(confinement)) => confinement.apply()?,
                    Kind::Exec(None) | Kind::First => {}
                }
                Ok(environment)
            });
        match prepared {
            Err(fault) => fault,
            Ok(environment) => refused(&file, execute(&file, &arguments, &environment)),
        }
    }
}

fn process_of(spec: &Spec) -> Result<&Process, ProgramFault> {
    spec.process()
        .as_ref()
        .ok_or_else(|| ProgramFault::NotFound("the container has no process to run".to_owned()))
}

fn execute(file: &CString, arguments: &[CString], environment: &[CString]) -> Errno {
    match execve(file, arguments, environment) {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

fn refused(file: &CString, error: Errno) -> ProgramFault {
    let reason = io::Error::from(error);
    let hint = match error {
        Errno::ENOENT => " (the interpreter that it names is missing)",
        Errno::ENOEXEC => {
            " (a program for another kind of machine, or a script without a first line that names \
             its interpreter)"
        }
        _ => "",
    };
    ProgramFault::NotExecutable(format!("cannot execute {file:?}: {reason}{hint}"))
}

/// Unblocks all signals and resets their actions. The host, as every Rust program, ignores SIGPIPE.
#[expect(unsafe_code, reason = "setting a signal's action is unsafe in general")]
fn reset_signals() {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: the default action runs no code of this process. The action of SIGKILL, SIGSTOP
        // and the C library's own signals cannot be set, and is the default one.
        let _ = unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    let _ = SigSet::empty().thread_set_mask();
}
