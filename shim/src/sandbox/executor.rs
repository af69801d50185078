//! What happens inside the container's process, once libcontainer has set up its namespaces and root.
//!
//! libcontainer calls `validate` while the container is being created and `exec` once it is started, in one process.
#![expect(clippy::print_stderr, reason = "standard error is the container's, the only place where its user looks")]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::process;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use libcontainer::workload::default::DefaultExecutor;
use libcontainer::workload::{Executor as LibcontainerExecutor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use oci_spec::runtime::Spec;
use signal_hook::consts::signal::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use zygote::WireFd;

use super::Program;
use super::intermediate::Intermediates;
use crate::engine::{Engine, NotRunnable, Wasm};
use crate::guest::{Form, read_all};
use crate::outcome::{self, SIGNAL_BASE};
use crate::wasi::WasiContext;

/// Signals that end a program by default and that Kubernetes or an operator may send. A guest is the first process of
/// its pid namespace, and the kernel does not deliver to such a process any signal that it has no handler for.
const ENDING_SIGNALS: &[i32] = &[SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM];

/// Runs a [`Program`] in the container's process.
#[derive(Clone)]
pub(super) struct Executor {
    workload: Workload,
    intermediates: Rc<Cell<Option<Intermediates>>>,
}

#[derive(Clone)]
enum Workload {
    Native(DefaultExecutor),
    Wasm(Rc<Guest<Wasm>>),
}

/// A guest on its way to being run by engine `E`.
pub(super) struct Guest<E: Engine> {
    file: RefCell<File>,
    form: Form,
    origin: String,
    function: String,
    wasi: WasiContext,
    prepared: RefCell<Option<E::Prepared>>,
}

impl Executor {
    /// Called in the container's zygote.
    pub(super) fn new(program: Program) -> std::io::Result<Self> {
        let workload = match program {
            Program::Native => Workload::Native(DefaultExecutor {}),
            Program::Wasm { file, form, origin, function, wasi } => {
                let file = RefCell::new(WireFd::into_inner(file));
                Workload::Wasm(Rc::new(Guest { file, form, origin, function, wasi, prepared: RefCell::new(None) }))
            }
        };
        Ok(Self { workload, intermediates: Rc::new(Cell::new(Some(Intermediates::of_the_host()?))) })
    }
}

impl LibcontainerExecutor for Executor {
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        let result = match &self.workload {
            // Whether there is such a program was decided by `guest::select`, from the container's own PATH.
            Workload::Native(_) => Ok(()),
            Workload::Wasm(guest) => guest.prepare().map_err(ExecutorValidationError::ArgValidationError),
        };
        if let Some(intermediates) = self.intermediates.take() {
            intermediates.wait();
        }
        result
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        match &self.workload {
            Workload::Native(executor) => {
                let result = executor.exec(spec);
                // Still here: the kernel refused. A missing interpreter or a wrong architecture looks like this.
                let program = spec.process().as_ref().and_then(|process| process.args().as_ref()?.first().cloned()).unwrap_or_default();
                eprintln!("cannot execute {program:?}: {}", result.err().map(|error| crate::error::chain(&error)).unwrap_or_default());
                process::exit(outcome::NOT_RUNNABLE.into());
            }
            Workload::Wasm(guest) => process::exit(guest.run().into()),
        }
    }

    fn setup_envs(&self, envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        match &self.workload {
            Workload::Native(executor) => executor.setup_envs(envs),
            // A guest's variables are in its WASI context. In this process's environment they could steer the engine:
            // WASMEDGE_PLUGIN_PATH names libraries to load.
            Workload::Wasm(_) => Ok(()),
        }
    }
}

impl<E: Engine> Guest<E> {
    fn prepare(&self) -> Result<(), String> {
        // Before the container counts as created: a signal that comes right after must find the handler.
        let always = Arc::new(AtomicBool::new(true));
        for &signal in ENDING_SIGNALS {
            signal_hook::flag::register_conditional_shutdown(signal, i32::from(SIGNAL_BASE) + signal, Arc::clone(&always))
                .map_err(|error| format!("cannot handle signal {signal}: {error}"))?;
        }
        let refused = |error: String| format!("cannot run {}: {error}", self.origin);
        let bytes = read_all(&mut self.file.borrow_mut()).map_err(|error| refused(error.to_string()))?;
        let binary = self.binary(bytes).map_err(|error| refused(error.to_string()))?;
        let prepared = E::prepare(&binary, &self.function, &self.wasi).map_err(|error| refused(error.to_string()))?;
        self.prepared.replace(Some(prepared));
        Ok(())
    }

    fn binary(&self, bytes: Vec<u8>) -> Result<Vec<u8>, NotRunnable> {
        match self.form {
            Form::Binary => Ok(bytes),
            Form::Text => wat::parse_bytes(&bytes).map(std::borrow::Cow::into_owned).map_err(|error| NotRunnable::Text(error.to_string())),
        }
    }

    fn run(&self) -> u8 {
        let prepared = self.prepared.take().expect("libcontainer validates before it executes, in the same process");
        let outcome = E::run(prepared);
        if !matches!(outcome, outcome::Outcome::Exited(_)) {
            eprintln!("{}: {outcome}", self.origin);
        }
        outcome.exit_code()
    }
}
