//! The containers that share a node host, its socket, and the rules of its start and end.
//!
//! * [`HostKey`]: containers with the same key share a host.
//! * [`HostFiles`]: the files of a key: a lock, a pointer to the host for new containers, and
//!   sockets.
//! * [`HostArguments`]: the command line with which a launcher starts a host.

mod key;
mod lock;
mod files;
mod arguments;

pub use arguments::{ArgumentsError, HostArguments};
pub use files::{HostFiles, Liveness, LockedFiles, Retired, SOCKETS, liveness, liveness_after};
pub use key::{Group, HostKey, Pod};

/// The descriptor of a host's listening socket (containerd's shim contract).
pub const SOCKET_FD: i32 = 3;

/// The file name of the dynamic loader in a bundle's `lib`, on which the host and the programs that
/// compile guests run.
#[cfg(target_arch = "x86_64")]
pub const LOADER: &str = "ld-linux-x86-64.so.2";
/// The file name of the dynamic loader in a bundle's `lib`, on which the host and the programs that
/// compile guests run.
#[cfg(target_arch = "aarch64")]
pub const LOADER: &str = "ld-linux-aarch64.so.1";

/// The last line that a host writes to standard error, when it is ready to serve. Earlier text
/// without this line is the cause of a failed start.
pub const READY: &str = "wasmedge-host serves\n";
