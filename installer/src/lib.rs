//! The installer of one node: installs the runtime, verifies it, and removes it.
//!
//! A module uses only modules above it in this list. A request goes through the last group from
//! [`program`] to [`install`] or [`uninstall`], and from there through the stages.
//!
//! The node and its files:
//!
//! 1. [`node_root`]: paths below the node's root, its programs, and the lock that allows one
//!    installer at a time; [`files`]: writes that a crash leaves complete or undone.
//! 2. [`kernel`]: the kernel features that the runtime needs; [`containers`]: the containers that
//!    run from the runtime.
//!
//! The runtime's files:
//!
//! 3. [`fetch`]: the archive, verified by its digest; [`unpack`]: its folder on the node;
//!    [`entry`]: a handler's options in a file beside a link to the launcher.
//! 4. [`containerd`]: the edits of containerd's configuration. Pure, except for reads of the files
//!    and trial runs of the node's own containerd.
//!
//! The node's services:
//!
//! 5. [`cri`]: containerd's answers; [`machine`]: the services as a trait, which tests replace;
//!    [`smoke`]: one guest through the handler; [`services`]: the real services, with
//!    [`systemd_client`] for units.
//! 6. [`detect`]: distribution, containerd and cgroup driver of the node.
//!
//! One run:
//!
//! 7. [`failure`]: an error with the report's reason; [`installation`]: the request, the node, and
//!    the paths.
//! 8. [`record`]: what was done so far, on the node's disk; [`guard_unit`]: the start of the guard;
//!    [`change`]: writes a change of the configuration and undoes it.
//! 9. [`stage`]: check, artifact, configure, restart, verify, clean.
//! 10. [`rollback`]: undoes a pending change and verifies the result; [`guard`]: does that when no
//!     installer is left.
//! 11. `progress`, `recovery`: the report of a run, and the end of a failed one.
//! 12. [`install`] and [`uninstall`]: the stages in their order; [`program`]: command line, signals
//!     and the report.
#![forbid(unsafe_code)]

pub mod node_root;
pub mod files;
pub mod kernel;
pub mod containers;
pub mod fetch;
pub mod unpack;
pub mod entry;
pub mod containerd;
pub mod cri;
pub mod machine;
pub mod smoke;
pub mod services;
pub mod detect;
pub mod failure;
pub mod installation;
pub mod record;
pub mod guard_unit;
pub mod change;
pub mod stage;
pub mod rollback;
pub mod guard;
mod progress;
mod recovery;
pub mod install;
pub mod uninstall;
pub mod program;
