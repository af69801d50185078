//! Wasmtime as an [`Engine`]. It only runs artifacts: the process of its guests has no compiler and
//! no interpreter.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use wasmtime_engine::STACK_BYTES;
use wasmtime_engine::run::{self, Context, Ended, Folder, Prepared, Provider};

use super::address_space::{limit, not_instantiated};
use super::inspect::Shape;
use super::{Engine, NotRunnable};
use crate::outcome::Outcome;
use crate::wasi::WasiContext;

/// Wasmtime.
#[derive(Debug)]
pub(crate) struct Wasmtime;

impl Wasmtime {
    /// Returns the build of this host. A guest's code is compiled for it, and loaded by no other.
    pub(crate) fn build() -> String {
        let revision = option_env!("WASMEDGE_RUNTIME_REVISION").unwrap_or_default();
        format!("{} {revision}", env!("CARGO_PKG_VERSION"))
    }
}

impl Engine for Wasmtime {
    /// The file of an artifact.
    type Code = OwnedFd;
    type Prepared = Prepared;

    fn version() -> String {
        wasmtime_engine::version()
    }

    fn warm() {
        run::warm(&Self::build());
    }

    fn prepare(
        artifact: OwnedFd,
        function: &str,
        wasi: &WasiContext,
    ) -> Result<Prepared, NotRunnable> {
        let loaded = run::load(File::from(artifact)).map_err(not_runnable)?;
        let shape = Shape::of_parts(loaded.imports(), loaded.functions());
        shape.check_function(function)?;
        shape.check_imports(|module, name| run::provider(module, name) != Provider::None)?;
        shape.check_sockets(|module, name| run::provider(module, name) == Provider::Wasmtime)?;
        let folders: Vec<Folder<'_>> = wasi
            .preopens
            .iter()
            .filter_map(|preopen| preopen.split_once(':'))
            .map(|(name, path)| Folder {
                name,
                path: Path::new(path),
            })
            .collect();
        let context = Context {
            args: &wasi.args,
            env: &wasi.env,
            folders: &folders,
        };
        loaded
            .prepare(shape.calls(function), &context)
            .map_err(not_runnable)
    }

    fn run(
        prepared: Prepared,
        instantiated: impl FnOnce(),
        _: impl FnOnce(Outcome) + Send + 'static,
    ) -> Outcome {
        outcome(run::run(prepared, instantiated))
    }
}

fn outcome(ended: Ended) -> Outcome {
    match ended {
        Ended::Exited(code) => Outcome::Exited(code),
        Ended::Trapped(text) => Outcome::Trapped(text),
        Ended::StackExhausted => {
            Outcome::stack_exhausted(&format!("{} MiB of nested calls", STACK_BYTES >> 20))
        }
        Ended::NotRunnable(reason) => Outcome::NotRunnable(not_instantiated(reason, limit())),
    }
}

fn not_runnable(error: run::NotRunnable) -> NotRunnable {
    use run::NotRunnable as Refused;
    match error {
        Refused::Engine(reason) | Refused::Context(reason) => NotRunnable::Engine(reason),
        Refused::Memory(reason) => NotRunnable::Engine(not_instantiated(reason, limit())),
        Refused::Artifact(reason) => NotRunnable::Code { reason },
        Refused::Link(reason) => NotRunnable::Link { reason },
    }
}

#[cfg(test)]
mod tests;
