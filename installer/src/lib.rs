//! Puts the runtime on one node, proves that it works there, and takes it away again.
//!
//! In the order in which an installation passes through:
//!
//! 1. [`host`]: the host's files below one root, its programs, its lock; [`files`] writes them so that a crash leaves
//!    the old file or the new one.
//! 2. [`detect`]: which distribution the host is, and what its containerd is like: facts as a value.
//! 3. [`fetch`], [`unpack`]: the runtime's archive, proven by its digest, as a folder in its place.
//! 4. [`containerd`]: containerd's configuration: what is to be edited, and the proof that nothing else changes. Pure,
//!    but for asking the host's own containerd.
//! 5. [`systemd`]: restarts units through systemd's private socket.
//! 6. [`cri`], [`smoke`]: whether containerd serves the handler, and whether a guest really runs.
//! 7. [`record`]: what was done so far, on the node's disk, so that another process can go on or go back.
//! 8. [`stage`]: the stages check, artifact, configure, restart, verify, clean; [`install`] and [`uninstall`] run them;
//!    [`guard`] goes back when the installer itself did not survive the restart.
#![forbid(unsafe_code)]

pub mod host;
pub mod files;
pub mod detect;
pub mod fetch;
pub mod unpack;
pub mod containerd;
pub mod systemd;
pub mod cri;
pub mod smoke;
pub mod record;
pub mod stage;
pub mod install;
pub mod uninstall;
pub mod guard;
