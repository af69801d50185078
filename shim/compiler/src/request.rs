//! The request to compile a guest.

use std::os::fd::OwnedFd;
use std::time::Duration;

use runtime_options::CgroupDriver;

use crate::{Backend, Form};

/// How many times as long as its processor time a compilation may take by the clock: it has a low
/// priority.
const WALL_FACTOR: u32 = 6;

/// A guest to compile.
#[derive(Debug)]
pub struct CompileRequest {
    /// The compiler, and how hard it tries.
    pub backend: Backend,
    /// The build of the runtime whose guests load the code. Wasmtime's code has it in it, and is
    /// loaded by no other build; WasmEdge's has not.
    pub build: String,
    /// The module: a regular file, open for reading or as a path alone (`O_PATH`). The helper opens
    /// the latter, so a file system that does not answer stalls nothing but the helper. It is read
    /// from its beginning.
    pub module: OwnedFd,
    /// The form of the module's bytes.
    pub form: Form,
    /// What the module is, for messages: its path in an image, for example.
    pub origin: String,
    /// The SHA-256 of the module's file. Other bytes are not compiled.
    pub sha256: [u8; 32],
    /// The most bytes that the module's file may have.
    pub max_module_bytes: u64,
    /// A file, open for writing, that gets the bytes of the module's file. They are the right ones
    /// only if a later request for the same SHA-256 accepts them.
    pub copy_to: Option<OwnedFd>,
    /// The folder for the compiled code: a mount that is attached nowhere, and that belongs to the
    /// [user of helpers](crate::protocol::HELPER_USER).
    pub draft: OwnedFd,
    /// The limits.
    pub limits: Limits,
    /// What makes the helper's cgroup.
    pub cgroup_driver: CgroupDriver,
}

/// Limits of one compilation. The option that raises each is named in the failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Processor time (`compileCpuSeconds`), in whole seconds.
    pub cpu: Duration,
    /// Memory in bytes (`compileMemoryMiB`).
    pub memory: u64,
    /// Size in bytes of each file that it writes (`artifactStoreMaxMiB`).
    pub output: u64,
}

impl Limits {
    /// Returns the time by the clock after which a compilation is stopped.
    pub fn wall(&self) -> Duration {
        self.cpu * WALL_FACTOR
    }
}
