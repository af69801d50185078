//! Signals of limits and of aborts, as exit codes.
//!
//! To the first process of a pid namespace, as the helper is, the kernel delivers no signal without
//! a handler but SIGKILL and those of faults. With handlers the host sees which limit was reached.

use std::io;

use guest_compiler::protocol::{EXIT_ABORTED, EXIT_CPU_TIME, EXIT_SIZE};

/// The signals, and the code with which each ends the process.
const CODES: &[(libc::c_int, u8)] = &[
    (libc::SIGXCPU, EXIT_CPU_TIME),
    (libc::SIGXFSZ, EXIT_SIZE),
    (libc::SIGABRT, EXIT_ABORTED),
];

/// Installs the handlers.
pub(crate) fn exit_at_limits() -> io::Result<()> {
    for &(signal, _) in CODES {
        let handler: extern "C" fn(libc::c_int) = exit;
        #[expect(
            unsafe_code,
            reason = "no crate here wraps signal(2) for safe handlers"
        )]
        // SAFETY: the handler calls _exit alone, which is allowed in one (signal-safety(7)).
        let former = unsafe { libc::signal(signal, handler as libc::sighandler_t) };
        if former == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

extern "C" fn exit(signal: libc::c_int) {
    let code = CODES.iter().find(|(each, _)| *each == signal);
    guest_compiler::protocol::exit(code.map_or(u8::MAX, |(_, code)| *code));
}
