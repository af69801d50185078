//! The WASI context of a guest, made in its own process.

use std::path::Path;

use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::random::Kernel;
use super::streams::{Input, Output};

/// Maximum random bytes of one call: all that a memory of 32 bits can hold.
const MAX_RANDOM_BYTES: u64 = 4 << 30;

/// What a guest sees through WASI, and nothing else of its process.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// `argv`.
    pub args: &'a [String],
    /// The environment in this order, each entry as `NAME=value`. One without `=` gets an empty
    /// value.
    pub env: &'a [String],
    /// The folders that are open for it, from descriptor 3 on.
    pub folders: &'a [Folder<'a>],
}

/// A folder that is open for a guest.
#[derive(Debug, Clone, Copy)]
pub struct Folder<'a> {
    /// Its name for the guest.
    pub name: &'a str,
    /// Its path in the guest's process. The kernel decides what may be written below it.
    pub path: &'a Path,
}

impl Context<'_> {
    /// Opens the folders and makes the context. Its streams are the process's descriptors 0 to 2.
    pub(super) fn wasi(&self) -> Result<WasiP1Ctx, String> {
        let mut wasi = WasiCtxBuilder::new();
        // Before the folders, which copy it. The process has one thread, and one guest to wait for.
        wasi.allow_blocking_current_thread(true);
        wasi.args(self.args);
        for entry in self.env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            wasi.env(name, value);
        }
        for folder in self.folders {
            wasi.preopened_dir(folder.path, folder.name, FsPerms::ReadWrite)
                .map_err(|error| format!("open {}: {error:#}", folder.path.display()))?;
        }
        wasi.stdin(Input)
            .stdout(Output::Standard)
            .stderr(Output::Error);
        let (secure, seed) = Kernel::open()?;
        wasi.secure_random(secure);
        wasi.insecure_random(Kernel::open()?.0);
        wasi.insecure_random_seed(seed);
        wasi.max_random_size(MAX_RANDOM_BYTES);
        Ok(wasi.build_p1())
    }
}
