//! The descriptors of a process's streams, as each way to make a process takes them.

use container_io::Stdio;

/// For a process that libcontainer sets up.
pub fn for_native(stdio: Stdio) -> native_container::Stdio {
    let Stdio { stdin, stdout, stderr, terminal } = stdio;
    native_container::Stdio { stdin, stdout, stderr, terminal }
}

/// For a process in a sandbox of our own.
pub fn for_guest(stdio: Stdio) -> guest_sandbox::Stdio {
    let Stdio { stdin, stdout, stderr, terminal } = stdio;
    match terminal {
        Some(terminal) => guest_sandbox::Stdio::Terminal(terminal),
        None => guest_sandbox::Stdio::Streams { stdin, stdout, stderr },
    }
}
