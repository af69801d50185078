//! Texts of traps, as they appear in the container's log.

use std::fmt::Write as _;

use failures::text::{presentable, presentable_name};
use wasmtime::{FrameInfo, Trap, WasmBacktrace};

/// The words that Wasmtime's own texts of traps begin with.
const PREFIX: &str = "wasm trap: ";

/// Returns whether the guest's code was running, as opposed to the engine's alone.
pub(super) fn is_of_the_guest(error: &wasmtime::Error) -> bool {
    error.is::<Trap>() || error.is::<WasmBacktrace>()
}

/// Returns the cause, then a line for each function, the innermost first.
pub(super) fn text(error: &wasmtime::Error) -> String {
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    let shown = backtrace.map(ToString::to_string);
    // The trap itself is innermost; what the engine adds to it, such as the address, is around it.
    let mut causes: Vec<String> = error
        .chain()
        .map(ToString::to_string)
        .filter(|cause| shown.as_ref() != Some(cause))
        .map(|cause| presentable(cause.strip_prefix(PREFIX).unwrap_or(&cause)))
        .collect();
    causes.reverse();
    let mut text = causes.join(": ");
    for frame in backtrace.iter().flat_map(|backtrace| backtrace.frames()) {
        text.push_str("\n  at ");
        text.push_str(&place(frame));
    }
    text
}

/// Returns the function of a frame and the offset in the module's file.
fn place(frame: &FrameInfo) -> String {
    let mut place = match frame.func_name() {
        Some(name) => presentable_name(name),
        None => format!("function {}", frame.func_index()),
    };
    if let Some(offset) = frame.module_offset() {
        let _ = write!(place, " (offset {offset:#x} of the module)");
    }
    place
}
