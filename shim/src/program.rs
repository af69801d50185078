//! A guest as it is sent to the process that runs it.

use std::fs::File;

use guest_sandbox::lookup::Reopened;
use guest_sandbox::{Refusal, SandboxError, WireFd, Workload};
use serde::{Deserialize, Serialize};

use crate::engine::{Code, Engine, NotRunnable, Wasm, WasmCode, Wasmtime};
use crate::error::CreateError;
use crate::outcome::Outcome;
use crate::text::presentable;
use crate::wasi::WasiContext;
use crate::workload::kind::without_byte_order_mark;
use crate::workload::{Bytes, Form, GuestModule, read_all};

/// A guest, with the code of it that its engine loads.
#[derive(Serialize, Deserialize)]
pub(crate) struct GuestProgram {
    source: Source,
    origin: String,
    function: String,
    wasi: WasiContext,
}

/// The source of a guest's code.
#[derive(Serialize, Deserialize)]
enum Source {
    /// The module in sealed memory.
    Memory(WireFd, Form),
    /// The module in a file of the container.
    File(Reopened, Form),
    /// A folder with WasmEdge's compiled code.
    WasmEdge(WireFd),
    /// Wasmtime's compiled code.
    Wasmtime(WireFd),
}

/// A guest that its engine has loaded, with its name for messages.
pub(crate) struct Ready {
    prepared: Prepared,
    origin: String,
}

enum Prepared {
    Wasm(<Wasm as Engine>::Prepared),
    Wasmtime(<Wasmtime as Engine>::Prepared),
}

impl GuestProgram {
    /// Describes `guest`, which is to run in the context `wasi` as `code`.
    ///
    /// # Errors
    /// If this process has no file descriptor left.
    pub(crate) fn new(
        guest: &GuestModule,
        code: Code,
        wasi: WasiContext,
    ) -> Result<Self, CreateError> {
        let source = match (code, &guest.bytes) {
            (Code::WasmEdge { folder }, _) => Source::WasmEdge(folder),
            (Code::Wasmtime { file }, _) => Source::Wasmtime(file),
            (Code::Module, Bytes::Memory(file)) => {
                let file = file.try_clone().map_err(CreateError::Descriptors)?;
                Source::Memory(WireFd::new(file), guest.form)
            }
            (Code::Module, Bytes::File { path, .. }) => {
                let path = path.try_clone().map_err(CreateError::Descriptors)?;
                Source::File(Reopened::new(path).map_err(SandboxError::Host)?, guest.form)
            }
        };
        let (origin, function) = (guest.origin.clone(), guest.entrypoint.function.clone());
        Ok(Self {
            source,
            origin,
            function,
            wasi,
        })
    }
}

impl Workload for GuestProgram {
    type Ready = Ready;

    fn prepare(self) -> Result<Ready, Refusal> {
        let Self {
            source,
            origin,
            function,
            wasi,
        } = self;
        match load(source, &function, &wasi) {
            Ok(prepared) => Ok(Ready { prepared, origin }),
            Err(error) => {
                // An error may quote a line of the guest's text, and that may be the whole text.
                let (origin, reason) = (presentable(&origin), presentable(&error.to_string()));
                let text = format!("cannot run {origin}: {reason}");
                Err(match error {
                    NotRunnable::Code { .. } => Refusal::Code(text),
                    _ => Refusal::Guest(text),
                })
            }
        }
    }

    fn run(ready: Ready) -> u8 {
        let Ready { prepared, origin } = ready;
        match prepared {
            Prepared::Wasm(prepared) => run::<Wasm>(prepared, &origin),
            Prepared::Wasmtime(prepared) => run::<Wasmtime>(prepared, &origin),
        }
    }
}

fn load(source: Source, function: &str, wasi: &WasiContext) -> Result<Prepared, NotRunnable> {
    let unreadable = |error: std::io::Error| NotRunnable::Unreadable(error.to_string());
    let code = match source {
        Source::Memory(file, form) => WasmCode::Module(module(&file.into_inner().into(), form)?),
        Source::File(file, form) => {
            WasmCode::Module(module(&file.into_file().map_err(unreadable)?, form)?)
        }
        Source::WasmEdge(folder) => WasmCode::Compiled(folder.into_inner()),
        Source::Wasmtime(file) => {
            let prepared = Wasmtime::prepare(file.into_inner(), function, wasi);
            return prepared.map(Prepared::Wasmtime);
        }
    };
    Wasm::prepare(code, function, wasi).map(Prepared::Wasm)
}

/// Reads a module, in its binary form.
fn module(file: &File, form: Form) -> Result<Vec<u8>, NotRunnable> {
    let bytes = read_all(file, form.max_bytes())
        .map_err(|error| NotRunnable::Unreadable(error.to_string()))?;
    match form {
        Form::Binary => Ok(bytes),
        Form::Text => {
            let parsed =
                wat::parse_bytes(without_byte_order_mark(&bytes)).map(std::borrow::Cow::into_owned);
            parsed.map_err(|error| NotRunnable::Text(error.to_string()))
        }
    }
}

fn run<E: Engine>(prepared: E::Prepared, origin: &str) -> u8 {
    let name = origin.to_owned();
    let end = move |outcome: Outcome| process_forker::exit(report(&name, &outcome));
    // Instantiation used as much memory again as the guest's code; the container would hold it as
    // long as the guest runs.
    let outcome = E::run(prepared, guest_sandbox::trim_memory, end);
    report(origin, &outcome)
}

/// Writes an outcome other than an exit to the container's log; returns the exit code. An engine
/// may call it in the handler of a signal: it takes no memory.
#[expect(
    clippy::print_stderr,
    reason = "standard error is the container's, where its user looks"
)]
fn report(origin: &str, outcome: &Outcome) -> u8 {
    if !matches!(outcome, Outcome::Exited(_)) {
        eprintln!("{origin}: {outcome}");
    }
    outcome.exit_code()
}
