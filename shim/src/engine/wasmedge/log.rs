//! WasmEdge's own log. It would go to standard output, which belongs to the guest.

use std::sync::Mutex;

use wasmedge_sys::ffi;

/// Lines that were not taken yet.
static LINES: Mutex<String> = Mutex::new(String::new());
/// Bounds the log of a guest that fails again and again.
const MAX_LOG_BYTES: usize = 16 << 10;

/// The lowest level of the lines that are kept.
#[derive(Debug, Clone, Copy)]
pub(super) enum Level {
    /// Warnings and errors.
    Warning,
    /// Errors.
    Error,
}

/// Starts to keep what WasmEdge logs, from this level on.
pub(super) fn capture(level: Level) {
    let level = match level {
        Level::Warning => ffi::WasmEdge_LogLevel_Warn,
        Level::Error => ffi::WasmEdge_LogLevel_Error,
    };
    // SAFETY: sets a level inside the library.
    unsafe { ffi::WasmEdge_LogSetLevel(level) };
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
