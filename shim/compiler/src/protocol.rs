//! Messages between host and helper. The socket is the helper's standard input.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use process_forker::wire::{MAX_REQUEST, Message};
pub use process_forker::{Failure, Step, WireFd, exit};

/// The file of the compiled code, in the folder of the draft.
pub const ARTIFACT: &str = "artifact";

/// The helper's name in lists of processes.
pub const HELPER_NAME: &std::ffi::CStr = c"wasmedge-compile";

/// User and group of the helper, which own nothing on a node.
pub const HELPER_USER: u32 = 65534;

/// The exit code of a helper that has used its processor time.
pub const EXIT_CPU_TIME: u8 = 90;
/// The exit code of a helper that would have written too large a file.
pub const EXIT_SIZE: u8 = 91;
/// The exit code of a helper that its compiler has aborted.
pub const EXIT_ABORTED: u8 = 92;

/// The compiler, and how hard it tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backend {
    /// WasmEdge's, with LLVM: a shared library.
    WasmEdge(Tier),
    /// Wasmtime's, with Cranelift: its serialized module.
    Wasmtime,
}

/// How hard WasmEdge's compiler tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// Level O0: about a second for each megabyte.
    Baseline,
    /// Level O2.
    Optimized,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WasmEdge(Tier::Baseline) => "WasmEdge's baseline compiler",
            Self::WasmEdge(Tier::Optimized) => "WasmEdge's optimizing compiler",
            Self::Wasmtime => "Wasmtime's compiler",
        })
    }
}

/// The form of a module's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// The binary format.
    Binary,
    /// The text format, which the helper converts.
    Text,
}

/// The first message of the host, for the process that is to execute the helper's program.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// The files through which it joins its cgroup, if it was not forked into it.
    pub(crate) cgroup: Vec<WireFd>,
    /// Its standard output and standard error.
    pub(crate) output: WireFd,
    /// The program and its arguments.
    pub(crate) command_line: Vec<PathBuf>,
    /// Its limit of processor time, in seconds.
    pub(crate) cpu_seconds: u64,
    /// Its limit of writable private memory, in bytes.
    pub(crate) data_bytes: u64,
    /// The largest file that it may write, in bytes.
    pub(crate) file_bytes: u64,
}

/// The second message, for the helper's program.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// The compiler.
    pub backend: Backend,
    /// The build of the runtime whose guests load the code.
    pub build: String,
    /// The module.
    pub module: WireFd,
    /// Its form.
    pub form: Form,
    /// The SHA-256 that its bytes must have.
    pub sha256: [u8; 32],
    /// The most bytes that it may have.
    pub max_module_bytes: u64,
    /// Gets its bytes.
    pub copy_to: Option<WireFd>,
    /// The folder for the compiled code: a mount that is attached nowhere.
    pub draft: WireFd,
}

/// What the helper reports. The host interprets it together with the end of the process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// It is confined and is about to read the module. Comes first.
    Confined,
    /// The file [`ARTIFACT`] is complete.
    Compiled,
    /// The module cannot be compiled: its text.
    Refused(String),
    /// The module's bytes do not have the expected SHA-256.
    Changed,
    /// The node failed: no program, no confinement, no space, no module to read.
    Failed(Failure),
}

impl Reply {
    /// Cuts its texts to what the host accepts.
    #[must_use]
    pub fn truncated(self) -> Self {
        match self {
            Self::Refused(text) => Self::Refused(process_forker::wire::truncated(text)),
            Self::Failed(failure) => Self::Failed(failure.truncated()),
            other => other,
        }
    }
}
