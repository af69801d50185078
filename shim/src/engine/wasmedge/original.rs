//! Functions of the C and C++ libraries that this executable replaces, since the engine has no
//! setting for what they do.

use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The library's own function of a name that this executable exports, too.
pub(super) struct Original {
    name: &'static CStr,
    /// Null before the first use.
    found: AtomicPtr<c_void>,
}

impl Original {
    /// Describes the function `name`.
    pub(super) const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            found: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Returns its address.
    pub(super) fn get(&self) -> *mut c_void {
        let known = self.found.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: the name is a C string.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        assert!(
            !found.is_null(),
            "{}: a library that the engine is linked to has it",
            self.name.to_string_lossy()
        );
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

/// Returns what the engine's library finds under `name`.
#[cfg(test)]
pub(super) fn found_by_the_engine(name: &CStr) -> usize {
    // SAFETY: the name is a C string.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }.addr()
}
