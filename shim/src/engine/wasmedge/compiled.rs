//! Machine code of a guest, compiled by this runtime: checked, and loaded by path.
//!
//! The engine opens an artifact by a path alone, and the guest's root does not have it. So the
//! artifact's folder is the working folder of the process while it is loaded. The folder is
//! detached, so it has no absolute path; the engine makes one of every path, with what `getcwd`
//! returns. That call comes here, and gets a path that is relative again. (The dynamic linker's own
//! use of the system call fails by the process's filter, which it accepts.)

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{chdir, fchdir};
use wasmedge_sdk::Module;
use wasmedge_sdk::config::Config;

use super::log::{self, Level};
use super::original::Original;
use super::reason;
use crate::engine::NotRunnable;
use crate::engine::address_space::limit;
use crate::engine::inspect::Shape;

/// The artifact in its folder.
const ARTIFACT: &str = "./artifact";
const ARTIFACT_C: &CStr = c"./artifact";
/// The version of the artifacts of WasmEdge 0.17. An artifact of another version would be refused
/// by the engine, or interpreted.
const VERSION: u32 = 2;

/// Whether the working folder is that of an artifact.
static IS_IN_FOLDER: AtomicBool = AtomicBool::new(false);

/// Loads the artifact in `folder` if `check` accepts its module.
///
/// # Errors
/// If `check` refuses, the artifact is not one of this engine, or there is no memory for it.
pub(super) fn load(
    folder: &OwnedFd,
    config: &Config,
    check: impl FnOnce(&Shape) -> Result<(), NotRunnable>,
) -> Result<(Module, Shape), NotRunnable> {
    fchdir(folder).map_err(|errno| engine("enter the folder of the compiled code", errno))?;
    let loaded = load_here(config, check);
    // The folder is the working folder of no code of the guest.
    chdir("/").map_err(|errno| engine("leave the folder of the compiled code", errno))?;
    loaded
}

fn load_here(
    config: &Config,
    check: impl FnOnce(&Shape) -> Result<(), NotRunnable>,
) -> Result<(Module, Shape), NotRunnable> {
    // What the container has too few of, such as descriptors, is not the artifact's fault.
    let file = File::open(ARTIFACT).map_err(|error| engine("open the compiled code", error))?;
    let shape = Library::open()?.shape()?;
    drop(file);
    check(&shape)?;
    // It would log that it interprets the module instead, and return no error.
    log::capture(Level::Warning);
    IS_IN_FOLDER.store(true, Ordering::Relaxed);
    let module = Module::from_file(Some(config), ARTIFACT);
    IS_IN_FOLDER.store(false, Ordering::Relaxed);
    log::capture(Level::Error);
    let module = module.map_err(|error| refused(reason(&error)))?;
    match log::take() {
        nothing if nothing.is_empty() => Ok((module, shape)),
        logged => Err(refused(logged)),
    }
}

fn engine(what: &str, cause: impl std::fmt::Display) -> NotRunnable {
    NotRunnable::Engine(format!("{what}: {cause}"))
}

/// Returns the error of an artifact that does not load, for this `reason`.
fn refused(reason: String) -> NotRunnable {
    match limit() {
        Some(limit) => NotRunnable::AddressSpace { limit, reason },
        None => NotRunnable::Code { reason },
    }
}

/// An artifact that the dynamic linker has mapped. It stays mapped until the process ends.
struct Library(*mut c_void);

impl Library {
    /// Maps the artifact in the working folder.
    fn open() -> Result<Self, NotRunnable> {
        /// As the engine opens it: nothing in it is bound to a function elsewhere.
        const MODE: c_int = libc::RTLD_LAZY | libc::RTLD_LOCAL;
        // SAFETY: the path is a C string. The artifact was made by this runtime's compiler, which
        // the host has checked, and has no constructors.
        let library = unsafe { libc::dlopen(ARTIFACT_C.as_ptr(), MODE) };
        if library.is_null() {
            // SAFETY: takes nothing.
            let error = unsafe { libc::dlerror() };
            if error.is_null() {
                return Err(refused("it cannot be mapped".to_owned()));
            }
            // SAFETY: the text of the last error of this thread, copied before the next call.
            let error = unsafe { CStr::from_ptr(error) };
            return Err(refused(error.to_string_lossy().into_owned()));
        }
        let library = Self(library);
        match library.number(c"version") {
            Some(VERSION) => Ok(library),
            Some(other) => Err(refused(format!(
                "it has version {other} of the engine's format, and this engine reads {VERSION}"
            ))),
            None => Err(refused("it is not one of this engine".to_owned())),
        }
    }

    /// Returns the shape of the module of which it was compiled, and which it holds.
    fn shape(&self) -> Result<Shape, NotRunnable> {
        let (code, size) = (self.symbol(c"wasm.code"), self.number(c"wasm.size"));
        let Some((code, size)) = code.zip(size) else {
            return Err(refused("it holds no module".to_owned()));
        };
        // SAFETY: the symbols name the first byte and the number of bytes of constant data of the
        // artifact, which is never unmapped.
        Shape::of(unsafe { slice::from_raw_parts(code.cast(), size as usize) })
    }

    fn number(&self, name: &CStr) -> Option<u32> {
        // SAFETY: each number of an artifact is a constant of this type.
        self.symbol(name)
            .map(|number| unsafe { number.cast::<u32>().read_unaligned() })
    }

    fn symbol(&self, name: &CStr) -> Option<*const c_void> {
        // SAFETY: the library is open, and the name is a C string.
        let found = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        (!found.is_null()).then_some(found.cast_const())
    }
}

/// `getcwd(3)`: returns the relative path of the working folder while an artifact is loaded, to a
/// caller without a buffer of its own.
#[unsafe(export_name = "getcwd")]
unsafe extern "C" fn getcwd(buffer: *mut c_char, size: usize) -> *mut c_char {
    type Getcwd = unsafe extern "C" fn(*mut c_char, usize) -> *mut c_char;
    static ORIGINAL: Original = Original::new(c"getcwd");
    if buffer.is_null() && IS_IN_FOLDER.load(Ordering::Relaxed) {
        // SAFETY: a C string; the caller frees the copy.
        return unsafe { libc::strdup(c".".as_ptr()) };
    }
    // SAFETY: the symbol has this type in every C library.
    let original = unsafe { std::mem::transmute::<*mut c_void, Getcwd>(ORIGINAL.get()) };
    // SAFETY: the caller's arguments.
    unsafe { original(buffer, size) }
}

#[cfg(test)]
mod tests;
