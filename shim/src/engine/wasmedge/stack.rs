//! The limit of a guest's call stack.
//!
//! WasmEdge (0.17) has no setting for it. Its interpreter keeps values and frames of a guest in two
//! C++ vectors, which double when they are full, so that an endless recursion takes all memory. A
//! vector gets its memory from `operator new`, which a program may replace: the one below lets a
//! vector grow up to [`MAX_VECTOR_BYTES`]. The interpreter cannot be left from within an
//! allocation, so the process ends there.

use std::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use crate::outcome::Outcome;

/// Maximum size of a vector of the guest's stack: a value is 16 bytes, a frame 56. So a guest may
/// be [`MAX_FRAMES`] calls deep, with four values each at that depth.
const MAX_VECTOR_BYTES: usize = 32 << 20;
/// Maximum size during instantiation, which has vectors of its own: tables and the code of
/// functions.
const MAX_BYTES_AT_START: usize = 256 << 20;
/// The capacity of the vector of frames after its last growth: 16 frames, doubled 15 times.
const MAX_FRAMES: usize = 16 << 15;

type EndGuest = Box<dyn FnOnce(Outcome) + Send>;

/// Maximum size of an allocation at present.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Reports an exhausted stack as the guest's outcome, and ends the process.
static END: Mutex<Option<EndGuest>> = Mutex::new(None);

/// Returns the outcome for an exhausted stack.
pub(super) fn exhausted() -> Outcome {
    Outcome::stack_exhausted(&format!(
        "{MAX_FRAMES} calls, or {} MiB of their values",
        MAX_VECTOR_BYTES >> 20
    ))
}

/// Sets the function that is called when a stack is exhausted. It must not return.
pub(super) fn on_exhaustion(end: impl FnOnce(Outcome) + Send + 'static) {
    *failures::lock_ignoring_poison(&END) = Some(Box::new(end));
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
        if let Some(end) = failures::lock_ignoring_poison(&END).take() {
            end(exhausted());
        }
    }
    original()(size)
}

type OperatorNew = extern "C-unwind" fn(usize) -> *mut c_void;

/// Returns `operator new` of the C++ library.
fn original() -> OperatorNew {
    static ORIGINAL: OnceLock<OperatorNew> = OnceLock::new();
    *ORIGINAL.get_or_init(|| {
        let name: *const c_char = c"_Znwm".as_ptr();
        #[expect(
            unsafe_code,
            reason = "only the dynamic linker finds the next function of a name"
        )]
        // SAFETY: the name is a C string.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name) };
        assert!(
            !found.is_null(),
            "the C++ library, which the engine is linked to, has operator new"
        );
        #[expect(unsafe_code, reason = "dlsym knows no types")]
        // SAFETY: the symbol is `operator new(size_t)`, which has this type in every C++ library of
        // this platform, and the library is never unloaded.
        unsafe {
            std::mem::transmute::<*mut c_void, OperatorNew>(found)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_allocates_through_this_operator_new() {
        #[expect(
            unsafe_code,
            reason = "only the dynamic linker shows what the engine's library finds"
        )]
        // SAFETY: the name is a C string.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_Znwm".as_ptr()) };
        let own: OperatorNew = operator_new;
        assert_eq!(
            found as usize, own as usize,
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
    }
}
