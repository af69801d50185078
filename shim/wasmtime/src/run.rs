//! The guest's side: an artifact to a running guest.
//!
//! | module | content |
//! |---|---|
//! | `imports` | the functions that a guest can import |
//! | `context` | the WASI context of a guest, made in its own process |
//! | `streams` | standard streams, on the process's descriptors |
//! | `random` | the kernel's random generator |
//! | `trap` | texts of traps |
//!
//! A zygote calls [`warm`] once. A guest's process, which is a fork of it, calls [`load`],
//! [`Loaded::prepare`] and [`run`]. It has one thread all the time: the functions of WASI are
//! asynchronous and run on the thread that waits for them, and files are read and written on it.

use std::fs::File;
use std::sync::OnceLock;

use thiserror::Error;
use tokio::runtime::Runtime;
use wasmtime::{Engine, ExternType, InstancePre, Linker, Module, Store, Trap, Val};
use wasmtime_wasi::p1::WasiP1Ctx;

use crate::config;

mod context;
mod imports;
mod random;
mod streams;
mod trap;

pub use context::{Context, Folder};
pub use imports::{Provider, provider};

/// The engine with the functions of WASI, made once; or the reason why it cannot be made.
static READY: OnceLock<Result<Ready, String>> = OnceLock::new();

struct Ready {
    engine: Engine,
    linker: Linker<WasiP1Ctx>,
}

/// A guest cannot run.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NotRunnable {
    /// The engine is not set up, or cannot be.
    #[error("the engine cannot be set up: {0}")]
    Engine(String),
    /// The artifact is damaged, or was made for another build, other settings or another CPU.
    #[error("the compiled guest does not load: {0}")]
    Artifact(String),
    /// The kernel refused memory or addresses for the artifact, which may be fine.
    #[error("the compiled guest cannot be mapped: {0}")]
    Memory(String),
    /// An import has another type than what is provided, or is not provided.
    #[error("the guest does not link: {0}")]
    Link(String),
    /// The guest's surroundings cannot be made: its folders, or the kernel's random generator.
    #[error("the guest's WASI context cannot be made: {0}")]
    Context(String),
}

/// A guest's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It returned from its functions, or called `proc_exit` with this code.
    Exited(u32),
    /// It did what WebAssembly forbids. The text names the trap, then a function on each line, the
    /// innermost first; names are on one line and bounded.
    Trapped(String),
    /// Its calls were nested deeper than [`crate::STACK_BYTES`] allow.
    StackExhausted,
    /// It was never run: there is no memory for it, or a function does not exist.
    NotRunnable(String),
}

/// The code of a guest that called `proc_exit`.
#[derive(Debug, Error)]
#[error("exit with code {0}")]
struct Exit(u32);

/// A guest whose artifact is mapped.
#[derive(Debug)]
pub struct Loaded(Module);

/// A guest that can run.
pub struct Prepared {
    instance: InstancePre<WasiP1Ctx>,
    store: Store<WasiP1Ctx>,
    calls: Vec<String>,
    /// Made in the guest's process: a fork would share its descriptors.
    runtime: Runtime,
}

/// Makes the engine for artifacts of the runtime's build `build`. Called in a zygote, which has one
/// thread: it leaves memory, signal handlers for traps, and neither threads nor files. It touches
/// no generator of random numbers, whose state all forks would share.
///
/// An engine that cannot be made is reported by [`load`].
pub fn warm(build: &str) {
    READY.get_or_init(|| ready(build).map_err(|error| format!("{error:#}")));
}

fn ready(build: &str) -> wasmtime::Result<Ready> {
    let mut config = config::shared(build)?;
    // In development both sides are built together. Without the feature there is no such setting.
    #[cfg(feature = "compile")]
    config.enable_compiler(false);
    config.shared_memory(false);
    let engine = Engine::new(&config)?;
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |context| context)?;
    // Wasmtime's own refuses codes from 126 on, which a container's process may well have.
    linker.allow_shadowing(true);
    linker.func_wrap(
        imports::PREVIEW1,
        "proc_exit",
        |code: u32| -> wasmtime::Result<()> { Err(Exit(code).into()) },
    )?;
    linker.allow_shadowing(false);
    Ok(Ready { engine, linker })
}

fn warmed() -> Result<&'static Ready, NotRunnable> {
    match READY.get() {
        Some(Ok(ready)) => Ok(ready),
        Some(Err(reason)) => Err(NotRunnable::Engine(reason.clone())),
        None => Err(NotRunnable::Engine("it was not warmed".to_owned())),
    }
}

/// Maps an artifact. All processes that map the same file share its pages. No code of the guest
/// runs.
///
/// The artifact must be one that [`crate::compile::precompile`] made and that nothing has changed
/// since: its machine code is run as it is.
///
/// # Errors
/// If the engine is not set up, or does not accept the artifact.
pub fn load(artifact: File) -> Result<Loaded, NotRunnable> {
    let Ready { engine, .. } = warmed()?;
    #[expect(unsafe_code, reason = "machine code cannot be checked")]
    // SAFETY: the file is an artifact of our own compile helper, which its store has verified by
    // digest and never changes.
    let module = unsafe { Module::deserialize_open_file(engine, artifact) };
    module.map(Loaded).map_err(|error| {
        let reason = format!("{error:#}");
        if error.is::<rustix::io::Errno>() {
            NotRunnable::Memory(reason)
        } else {
            NotRunnable::Artifact(reason)
        }
    })
}

impl Loaded {
    /// Returns module and name of each import.
    pub fn imports(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .imports()
            .map(|import| (import.module(), import.name()))
    }

    /// Returns each exported function with the number of its parameters.
    pub fn functions(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.exports().filter_map(|export| match export.ty() {
            ExternType::Func(ty) => Some((export.name(), ty.params().len())),
            _ => None,
        })
    }

    /// Makes everything that the guest needs, in its own process and after the process entered its
    /// root. `calls` are the functions to call, in this order, without arguments. No code of the
    /// guest runs.
    ///
    /// # Errors
    /// If an import is not provided or has another type, or the context cannot be made.
    pub fn prepare(
        self,
        calls: Vec<String>,
        context: &Context<'_>,
    ) -> Result<Prepared, NotRunnable> {
        let Ready { engine, linker } = warmed()?;
        let instance = linker
            .instantiate_pre(&self.0)
            .map_err(|error| NotRunnable::Link(format!("{error:#}")))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| NotRunnable::Engine(error.to_string()))?;
        let context = context.wasi().map_err(NotRunnable::Context)?;
        let mut store = Store::new(engine, context);
        // A bound on what one call copies. All copies are within the container's own memory.
        store.set_hostcall_fuel(usize::MAX);
        Ok(Prepared {
            instance,
            store,
            calls,
            runtime,
        })
    }
}

/// Runs the guest to its end: instantiates it, calls `instantiated`, then its functions. All that
/// it wrote is then written.
pub fn run(prepared: Prepared, instantiated: impl FnOnce()) -> Ended {
    let Prepared {
        instance,
        mut store,
        calls,
        runtime,
    } = prepared;
    let ended = runtime.block_on(async {
        let instance = match instance.instantiate_async(&mut store).await {
            Ok(instance) => instance,
            Err(error) => return Some(ended(&error, Stage::Instantiation)),
        };
        instantiated();
        for name in calls {
            let Some(function) = instance.get_func(&mut store, &name) else {
                return Some(Ended::NotRunnable(format!("no function `{name}`")));
            };
            let mut results = vec![Val::I32(0); function.ty(&store).results().len()];
            if let Err(error) = function.call_async(&mut store, &[], &mut results).await {
                return Some(ended(&error, Stage::Call));
            }
        }
        None
    });
    ended.unwrap_or(Ended::Exited(0))
}

/// The time of an error.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The start function may run here; but an error may also be that of the engine.
    Instantiation,
    /// A function of the guest runs.
    Call,
}

fn ended(error: &wasmtime::Error, stage: Stage) -> Ended {
    if let Some(Exit(code)) = error.downcast_ref() {
        return Ended::Exited(*code);
    }
    if let Some(Trap::StackOverflow) = error.downcast_ref() {
        return Ended::StackExhausted;
    }
    if stage == Stage::Instantiation && !trap::is_of_the_guest(error) {
        return Ended::NotRunnable(format!("{error:#}"));
    }
    Ended::Trapped(trap::text(error))
}
