//! WasmEdge as an [`Engine`].
//!
//! | file | content |
//! |---|---|
//! | `wasmedge/compiled.rs` | machine code: checked and loaded |
//! | `wasmedge/machine.rs` | the stack on which it runs, and its faults |
//! | `wasmedge/stack.rs` | the limit of the interpreter's stack, and the end of a guest that exhausts one |
//! | `wasmedge/original.rs` | functions of the C and C++ libraries that the others replace |
//! | `wasmedge/log.rs` | the engine's log |
//!
//! Only these files call libwasmedge, which calls into all of them.
#![expect(
    unsafe_code,
    reason = "the SDK wraps neither the library's version nor its log"
)]

use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, OnceLock};

use wasmedge_sdk::config::{CommonConfigOptions, Config, ConfigBuilder};
use wasmedge_sdk::error::{CoreError, WasmEdgeError};
use wasmedge_sdk::wasi::WasiModule;
use wasmedge_sdk::{AsInstance as _, Module, RunMode, Store, Vm, params};
use wasmedge_sys::ffi;

use super::address_space::{limit, not_instantiated, not_loaded};
use super::inspect::Shape;
use super::{Engine, NotRunnable};
use crate::outcome::Outcome;
use crate::wasi::WasiContext;

mod compiled;
mod log;
mod machine;
mod original;
mod stack;

use log::Level;

/// The module that WASI preview 1 guests import from.
const WASI: &str = "wasi_snapshot_preview1";

/// The engine's log line if it cannot reserve the addresses of a guest's memory. Its error, if it
/// returns one, is that of a trap; compiled code would take addresses of the process for its own.
const NO_ADDRESS_SPACE: &str = "Unable to find usable memory address";

/// A WASI module without arguments, for the one guest of a process. The zygote makes it, so that
/// its functions are made once and shared.
static READY_MADE: Mutex<Option<WasiModule>> = Mutex::new(None);

/// `(module (func (export "_start")))`
const EMPTY:
    &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\0\x0a\x04\x01\x02\0\x0b";

/// WasmEdge. A module is interpreted, and native code within its bytes is never loaded: since 0.17
/// only [`RunMode::Aot`] would, and that is for artifacts of our own alone.
#[derive(Debug)]
pub(crate) struct WasmEdge;

/// What WasmEdge loads.
#[derive(Debug)]
pub(crate) enum LoadableCode {
    /// A module in its binary form, to be interpreted.
    Module(Vec<u8>),
    /// The folder with an artifact of ours.
    Compiled(OwnedFd),
}

/// A guest that WasmEdge has loaded and validated.
#[derive(Debug)]
pub(crate) struct PreparedGuest {
    config: Config,
    module: Module,
    wasi: WasiModule,
    kind: CodeKind,
    /// Functions to call, in this order.
    calls: Vec<String>,
}

/// How code of a guest is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CodeKind {
    /// By the interpreter.
    Interpreted {
        /// Whether instantiation runs code of the guest.
        starts: bool,
    },
    /// By the processor.
    Compiled,
}

impl Engine for WasmEdge {
    type Code = LoadableCode;
    type Prepared = PreparedGuest;

    fn version() -> String {
        // SAFETY: takes nothing, changes nothing.
        let text = unsafe { ffi::WasmEdge_VersionGet() };
        // SAFETY: a NUL-terminated constant of the library, which is never unloaded.
        let text = unsafe { std::ffi::CStr::from_ptr(text) };
        format!("WasmEdge {}", text.to_string_lossy())
    }

    fn warm() {
        log::capture(Level::Error);
        // The first module that is loaded, instantiated and run makes the library resolve its
        // symbols, and fills the allocator: all guests share these pages.
        let nothing = WasiContext {
            args: Vec::new(),
            env: Vec::new(),
            preopens: Vec::new(),
        };
        if let Ok(prepared) =
            Self::prepare(LoadableCode::Module(EMPTY.to_vec()), "_start", &nothing)
        {
            let _ = Self::run(prepared, || {}, |_| {});
        }
        // None: each guest's process makes its own, and reports the error.
        let ready_made = WasiModule::create(None, None, None).ok();
        if let Some(module) = &ready_made {
            provided(module);
        }
        *failures::lock_ignoring_poison(&READY_MADE) = ready_made;
    }

    fn prepare(
        code: LoadableCode,
        function: &str,
        wasi: &WasiContext,
    ) -> Result<PreparedGuest, NotRunnable> {
        log::capture(Level::Error);
        let wasi = wasi_module(wasi)?;
        let check = |shape: &Shape| {
            shape.check_function(function)?;
            shape.check_imports(|module, name| module == WASI && provided(&wasi).contains(name))
        };
        let (config, module, shape, kind) = match code {
            LoadableCode::Module(guest) => {
                let shape = Shape::of(&guest)?;
                check(&shape)?;
                let config = config(RunMode::Interpreter)?;
                let module = Module::from_bytes(Some(&config), &guest)
                    .map_err(|error| not_loaded(&guest, reason(&error), limit()))?;
                let starts = shape.has_start();
                (config, module, shape, CodeKind::Interpreted { starts })
            }
            LoadableCode::Compiled(folder) => {
                let config = config(RunMode::Aot)?;
                let (module, shape) = compiled::load(&folder, &config, check)?;
                (config, module, shape, CodeKind::Compiled)
            }
        };
        Ok(PreparedGuest {
            config,
            module,
            wasi,
            kind,
            calls: shape.calls(function),
        })
    }

    fn run(
        prepared: PreparedGuest,
        instantiated: impl FnOnce(),
        end: impl FnOnce(Outcome) + Send + 'static,
    ) -> Outcome {
        let PreparedGuest {
            config,
            module,
            mut wasi,
            kind,
            calls,
        } = prepared;
        let run = || call(&config, module, &mut wasi, (kind, &calls), instantiated);
        let result = match kind {
            CodeKind::Interpreted { .. } => {
                stack::on_exhaustion(stack::INTERPRETER, end);
                run()
            }
            CodeKind::Compiled => {
                stack::on_exhaustion(machine::LIMIT, end);
                match machine::on_own_stack(run) {
                    Ok(result) => result,
                    Err(error) => {
                        let reason = format!("its stack cannot be made: {error}");
                        return Outcome::NotRunnable(not_instantiated(reason, limit()));
                    }
                }
            }
        };
        match result {
            Ok(Run::Returned) => Outcome::Exited(wasi.exit_code()),
            Ok(Run::NoMemory(reason)) => Outcome::NotRunnable(not_instantiated(reason, limit())),
            Err(error) => {
                let reason = reason(&error);
                match *error {
                    WasmEdgeError::Core(CoreError::Execution(_))
                        if !reason.contains(NO_ADDRESS_SPACE) =>
                    {
                        Outcome::Trapped(reason)
                    }
                    _ => Outcome::NotRunnable(not_instantiated(reason, limit())),
                }
            }
        }
    }
}

/// The end of a guest without an error of the engine.
#[derive(Debug)]
enum Run {
    /// Its functions returned, or it exited.
    Returned,
    /// It was not called, because its memory was refused; with the engine's log.
    NoMemory(String),
}

fn call(
    config: &Config,
    module: Module,
    wasi: &mut WasiModule,
    (kind, calls): (CodeKind, &[String]),
    instantiated: impl FnOnce(),
) -> Result<Run, Box<WasmEdgeError>> {
    let mut instances = HashMap::new();
    instances.insert(WASI.to_owned(), wasi.as_mut());
    let mut vm = Vm::new(Store::new(Some(config), instances)?);
    // The instance has copies of the module's code; the module is dropped here.
    let instantiate = || vm.register_module(None, module).map(drop);
    match kind {
        CodeKind::Interpreted { starts: true } => stack::bounded_at_start(instantiate),
        CodeKind::Interpreted { starts: false } | CodeKind::Compiled => instantiate(),
    }?;
    let logged = log::take();
    if logged.contains(NO_ADDRESS_SPACE) {
        return Ok(Run::NoMemory(logged));
    }
    instantiated();
    let mut call = || {
        for function in calls {
            vm.run_func(None, function, params!())?;
        }
        Ok(Run::Returned)
    };
    match kind {
        CodeKind::Interpreted { .. } => stack::bounded(call),
        CodeKind::Compiled => call(),
    }
}

fn config(mode: RunMode) -> Result<Config, NotRunnable> {
    let options = CommonConfigOptions::default().run_mode(mode);
    ConfigBuilder::new(options)
        .build()
        .map_err(|error| NotRunnable::Engine(error.to_string()))
}

fn wasi_module(wasi: &WasiContext) -> Result<WasiModule, NotRunnable> {
    fn strs(list: &[String]) -> Vec<&str> {
        list.iter().map(String::as_str).collect()
    }
    let ready_made = failures::lock_ignoring_poison(&READY_MADE).take();
    let made = ready_made.map_or_else(|| WasiModule::create(None, None, None), Ok);
    let mut module = made.map_err(|error| NotRunnable::Engine(error.to_string()))?;
    let WasiContext {
        args,
        env,
        preopens,
    } = wasi;
    module.init_wasi(Some(strs(args)), Some(strs(env)), Some(strs(preopens)));
    Ok(module)
}

/// Returns the names of all items that a guest can import from WASI: the same for every module.
fn provided(wasi: &WasiModule) -> &'static BTreeSet<String> {
    static NAMES: OnceLock<BTreeSet<String>> = OnceLock::new();
    NAMES.get_or_init(|| wasi.func_names().into_iter().flatten().collect())
}

/// Returns the engine's error with the lines that it logged.
fn reason(error: &WasmEdgeError) -> String {
    let logged = log::take();
    if logged.is_empty() {
        error.to_string()
    } else {
        format!("{error}\n{logged}")
    }
}

#[cfg(test)]
mod tests;
