//! Which containers share a host, where it listens, and who may start or end it.
//!
//! * [`HostKey`]: containers with the same key share a host.
//! * [`Place`]: the files of a key: a lock, a pointer to the host that new containers go to, and
//!   sockets.
//! * [`HostArguments`]: the command line with which a launcher starts a host.

mod key;
mod lock;
mod place;
mod arguments;

pub use arguments::{ArgumentsError, HostArguments};
pub use key::{Group, HostKey, Pod};
pub use place::{Liveness, Locked, Place, Retired, SOCKETS, liveness, liveness_after};

/// The descriptor on which a host finds its listening socket (containerd's shim contract).
pub const SOCKET_FD: i32 = 3;

/// What a host says on standard error once it serves: the last that it says there. What it says
/// without this is why it cannot serve.
pub const READY: &str = "wasmedge-host serves\n";
