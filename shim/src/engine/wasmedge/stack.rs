//! The limit of an interpreted guest's call stack, and the end of a guest that exhausts its stack.
//!
//! WasmEdge (0.17) has no setting for it. Its interpreter keeps values and frames of a guest in two
//! C++ vectors, which double when they are full, so that an endless recursion takes all memory. A
//! vector gets its memory from `operator new`, which a program may replace: the one below lets a
//! vector grow up to [`MAX_VECTOR_BYTES`]. The interpreter cannot be left from within an
//! allocation, so the process ends there.

use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::original::Original;
use crate::outcome::Outcome;

/// Maximum size of a vector of the guest's stack: a value is 16 bytes, a frame 56. So a guest may
/// be 524288 calls deep, with four values each at that depth.
const MAX_VECTOR_BYTES: usize = 32 << 20;
/// Maximum size during instantiation, which has vectors of its own: tables and the code of
/// functions.
const MAX_BYTES_AT_START: usize = 256 << 20;
/// The capacity of the vector of frames after its last growth: 16 frames, doubled 15 times.
#[cfg(test)]
const MAX_FRAMES: usize = 16 << 15;

/// The limit of the interpreter, for messages.
pub(super) const INTERPRETER: &str = "524288 calls, or 32 MiB of their values";

type EndGuest = Box<dyn FnOnce() + Send>;

/// Maximum size of an allocation at present.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Reports an exhausted stack as the guest's outcome, and ends the process.
static END: Mutex<Option<EndGuest>> = Mutex::new(None);

/// Sets the function that is called when a stack is exhausted, of which `limit` names the limit. It
/// must not return.
pub(super) fn on_exhaustion(limit: &str, end: impl FnOnce(Outcome) + Send + 'static) {
    // Made now: at that point there may be no memory to be had.
    let outcome = Outcome::stack_exhausted(limit);
    *failures::lock_ignoring_poison(&END) = Some(Box::new(move || end(outcome)));
}

/// Ends the process of a guest with an exhausted stack. Takes no memory. Returns if there is no
/// guest.
pub(super) fn end_exhausted() {
    let end = failures::lock_ignoring_poison(&END).take();
    if let Some(end) = end {
        end();
    }
}

/// Runs `guest`, which calls a guest's functions.
pub(super) fn bounded<T>(guest: impl FnOnce() -> T) -> T {
    within(MAX_VECTOR_BYTES, guest)
}

/// Runs `guest`, which instantiates a guest and so runs its start function.
pub(super) fn bounded_at_start<T>(guest: impl FnOnce() -> T) -> T {
    within(MAX_BYTES_AT_START, guest)
}

fn within<T>(limit: usize, guest: impl FnOnce() -> T) -> T {
    LIMIT.store(limit, Ordering::Relaxed);
    let result = guest();
    LIMIT.store(usize::MAX, Ordering::Relaxed);
    result
}

/// `operator new(size_t)`: calls that of the C++ library within the limit.
#[unsafe(export_name = "_Znwm")]
#[expect(unsafe_code, reason = "C++ looks for it by its name")]
extern "C-unwind" fn operator_new(size: usize) -> *mut c_void {
    if size > LIMIT.load(Ordering::Relaxed) {
        // The report allocates memory, which is not the guest's.
        LIMIT.store(usize::MAX, Ordering::Relaxed);
        end_exhausted();
    }
    original()(size)
}

type OperatorNew = extern "C-unwind" fn(usize) -> *mut c_void;

/// Returns `operator new` of the C++ library.
fn original() -> OperatorNew {
    static ORIGINAL: Original = Original::new(c"_Znwm");
    #[expect(unsafe_code, reason = "dlsym knows no types")]
    // SAFETY: the symbol is `operator new(size_t)`, which has this type in every C++ library of
    // this platform, and the library is never unloaded.
    unsafe {
        std::mem::transmute::<*mut c_void, OperatorNew>(ORIGINAL.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::wasmedge::original::found_by_the_engine;

    #[test]
    fn engine_allocates_through_this_operator_new() {
        let found = found_by_the_engine(c"_Znwm");
        let own: OperatorNew = operator_new;
        assert_eq!(
            found, own as usize,
            "the executable does not export operator new"
        );
    }

    #[test]
    fn vector_of_frames_fits_the_limit_at_its_last_growth_and_not_at_the_next() {
        const FRAME: usize = 56;
        const {
            assert!(
                MAX_FRAMES * FRAME <= MAX_VECTOR_BYTES && 2 * MAX_FRAMES * FRAME > MAX_VECTOR_BYTES
            );
        };
        let named = format!(
            "{MAX_FRAMES} calls, or {} MiB of their values",
            MAX_VECTOR_BYTES >> 20
        );
        assert_eq!(INTERPRETER, named);
    }
}
