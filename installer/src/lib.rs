//! Puts the runtime on one node, proves that it works there, and takes it away again.
//!
//! In the order in which an installation passes through:
//!
//! 1. [`host`]: the host's files below one root, its programs, its lock; [`files`] writes them so
//!    that a crash leaves the old file or the new one.
//! 2. [`detect`]: which distribution the host is, and what its containerd is like: facts as a
//!    value.
//! 3. [`fetch`], [`unpack`]: the runtime's archive, proven by its digest, as a folder in its place;
//!    [`entry`]: the handler's options in a file beside a link to the launcher.
//! 4. [`containerd`]: containerd's configuration: what is to be edited, and the proof that nothing
//!    else changes. Pure, but for asking the host's own containerd.
//! 5. [`systemd_client`]: restarts units through systemd's private socket.
//! 6. [`cri`], [`smoke`]: whether containerd serves the handler, and whether a guest really runs.
//! 7. [`machine`]: all of a node that is not files, as a trait; [`services`] is the real one.
//! 8. [`record`]: what was done so far, on the node's disk, so that another process can go on or go
//!    back; [`change`] edits files forth and back by it, [`rollback`] goes back after a failure.
//! 9. [`stage`]: the stages check, artifact, configure, restart, verify, clean; [`install`] and
//!    [`uninstall`] run them; [`guard`] goes back when the installer itself did not survive the
//!    restart.
//! 10. [`program`]: the command line, signals, and the report.
#![forbid(unsafe_code)]

pub mod host;
pub mod files;
pub mod detect;
pub mod fetch;
pub mod unpack;
pub mod entry;
pub mod containerd;
pub mod cri;
pub mod smoke;
pub mod machine;
pub mod services;
pub mod record;
pub mod change;
pub mod rollback;
pub mod stage;
pub mod install;
pub mod uninstall;
pub mod guard;
pub mod program;
