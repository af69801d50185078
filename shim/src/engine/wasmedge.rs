//! WasmEdge as an [`Engine`]. Only this file calls libwasmedge, and only `wasmedge/stack.rs` is
//! called by it.
#![expect(
    unsafe_code,
    reason = "the SDK wraps neither the library's version nor its log"
)]

use std::collections::{BTreeSet, HashMap};
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

mod stack;

/// The module that WASI preview 1 guests import from.
const WASI: &str = "wasi_snapshot_preview1";

/// The engine's log line if it cannot reserve the addresses of a guest's memory. Its error is that
/// of a trap.
const NO_ADDRESS_SPACE: &str = "Unable to find usable memory address";

/// A WASI module without arguments, for the one guest of a process. The zygote makes it, so that
/// its functions are made once and shared.
static READY_MADE: Mutex<Option<WasiModule>> = Mutex::new(None);

/// `(module (func (export "_start")))`
const EMPTY:
    &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\0\x0a\x04\x01\x02\0\x0b";

/// WasmEdge, interpreting. Native code within a guest's bytes is never loaded: since 0.17 only
/// [`RunMode::Aot`] would.
#[derive(Debug)]
pub(crate) struct WasmEdge;

/// A guest that WasmEdge has loaded and validated.
#[derive(Debug)]
pub(crate) struct PreparedGuest {
    config: Config,
    module: Module,
    wasi: WasiModule,
    /// Whether instantiation runs code of the guest.
    starts: bool,
    /// Functions to call, in this order.
    calls: Vec<String>,
}

impl Engine for WasmEdge {
    type Prepared = PreparedGuest;

    fn version() -> String {
        // SAFETY: takes nothing, changes nothing.
        let text = unsafe { ffi::WasmEdge_VersionGet() };
        // SAFETY: a NUL-terminated constant of the library, which is never unloaded.
        let text = unsafe { std::ffi::CStr::from_ptr(text) };
        format!("WasmEdge {}", text.to_string_lossy())
    }

    fn warm() {
        log::capture();
        // The first module that is loaded, instantiated and run makes the library resolve its
        // symbols, and fills the allocator: all guests share these pages.
        let nothing = WasiContext {
            args: Vec::new(),
            env: Vec::new(),
            preopens: Vec::new(),
        };
        if let Ok(prepared) = Self::prepare(EMPTY, "_start", &nothing) {
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
        guest: &[u8],
        function: &str,
        wasi: &WasiContext,
    ) -> Result<PreparedGuest, NotRunnable> {
        log::capture();
        let shape = Shape::of(guest)?;
        shape.check_function(function)?;
        let wasi = wasi_module(wasi)?;
        shape.check_imports(|module, name| module == WASI && provided(&wasi).contains(name))?;
        let config = config()?;
        let module = Module::from_bytes(Some(&config), guest)
            .map_err(|error| not_loaded(guest, reason(&error), limit()))?;
        let initialize =
            (shape.is_reactor() && function != "_initialize").then(|| "_initialize".to_owned());
        let starts = shape.has_start();
        Ok(PreparedGuest {
            config,
            module,
            wasi,
            starts,
            calls: initialize
                .into_iter()
                .chain([function.to_owned()])
                .collect(),
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
            starts,
            calls,
        } = prepared;
        stack::on_exhaustion(end);
        let result = call(&config, module, &mut wasi, (starts, &calls), instantiated);
        match result {
            Ok(()) => Outcome::Exited(wasi.exit_code()),
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

fn call(
    config: &Config,
    module: Module,
    wasi: &mut WasiModule,
    (starts, calls): (bool, &[String]),
    instantiated: impl FnOnce(),
) -> Result<(), Box<WasmEdgeError>> {
    let mut instances = HashMap::new();
    instances.insert(WASI.to_owned(), wasi.as_mut());
    let mut vm = Vm::new(Store::new(Some(config), instances)?);
    // The instance has copies of the module's code; the module is dropped here.
    if starts {
        stack::bounded_at_start(|| vm.register_module(None, module))?;
    } else {
        vm.register_module(None, module)?;
    }
    instantiated();
    stack::bounded(|| {
        for function in calls {
            vm.run_func(None, function, params!())?;
        }
        Ok(())
    })
}

fn config() -> Result<Config, NotRunnable> {
    let options = CommonConfigOptions::default().run_mode(RunMode::Interpreter);
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

/// WasmEdge's own log. It would go to standard output, which belongs to the guest.
mod log {
    use super::{Mutex, ffi};

    /// Lines that were not taken yet.
    static LINES: Mutex<String> = Mutex::new(String::new());
    /// Bounds the log of a guest that fails again and again.
    const MAX_LOG_BYTES: usize = 16 << 10;

    /// Starts to keep the errors that WasmEdge logs.
    pub(super) fn capture() {
        // SAFETY: sets a level inside the library; no arguments.
        unsafe { ffi::WasmEdge_LogSetErrorLevel() };
        // SAFETY: `keep` is a function, so it lives as long as the library may call it, and it
        // never unwinds.
        unsafe { ffi::WasmEdge_LogSetCallback(Some(keep)) };
    }

    /// Takes the lines that were logged since the last call.
    pub(super) fn take() -> String {
        std::mem::take(&mut *failures::lock_ignoring_poison(&LINES))
            .trim_end()
            .to_owned()
    }

    unsafe extern "C" fn keep(message: *const ffi::WasmEdge_LogMessage) {
        // SAFETY: the library passes a message that is valid for the length of this call, or null.
        let Some(message) = (unsafe { message.as_ref() }) else {
            return;
        };
        if message.Message.Buf.is_null() {
            return;
        }
        // SAFETY: `Buf` points to `Length` bytes of the message, valid for the length of this call.
        let bytes = unsafe {
            std::slice::from_raw_parts(
                message.Message.Buf.cast::<u8>(),
                message.Message.Length as usize,
            )
        };
        let mut lines = failures::lock_ignoring_poison(&LINES);
        if lines.len() + bytes.len() < MAX_LOG_BYTES {
            lines.push_str("  ");
            lines.push_str(String::from_utf8_lossy(bytes).trim_end());
            lines.push('\n');
        }
    }
}

#[cfg(test)]
mod tests;
