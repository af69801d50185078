//! Compilation of a guest in a confined process of its own, the helper: its requests, its start by
//! a host, the end that the host makes of it.
//!
//! The bytes of a guest are hostile to a compiler. So a program that the host starts for one guest
//! compiles it, and can do nothing else: no file but the module, which is open already, and the
//! folder of its draft; no network; no other process; little processor time, memory and space.
//!
//! ```text
//! host                           forker          helper
//!  │ cgroup with limits            │               │
//!  │ spawn request ──────────────► │ clone3 ─────► │ new namespaces
//!  │ launch, job ────────────────────────────────► │ joins the cgroup, limits itself, executes
//!  │                                               │ <bundle>/bin/…-compile on the bundle's loader
//!  │ ◄──────────────────────────────── confined ── │ the draft as root, no privileges, a filter
//!  │                                               │ reads the module, hashes it, compiles it
//!  │ ◄────────────────────────── compiled, or why  │ ends
//!  │ pidfd is readable: reap, interpret, remove the cgroup
//! ```
//!
//! Use:
//!
//! 1. [`Compiler::new`], once for each host.
//! 2. [`Compiler::start`] with a [`CompileRequest`]; blocks for some milliseconds (with systemd,
//!    for as long as it takes to start a scope).
//! 3. Wait until [`Compiling::pidfd`] is readable, at most until [`Compiling::deadline`]; then
//!    [`Compiling::stop`], and wait again. [`Compiling::wait`] does all this and blocks.
//! 4. [`Compiling::finish`] returns the [`Outcome`]. A failure there is the module's and can be
//!    remembered; a [`CompileError`] is the node's and must not be.
//!
//! After [`Outcome::Compiled`] the folder of the request holds the file [`ARTIFACT`]. It is what a
//! process wrote that hostile bytes may have taken over: a file of another type, a link, or more
//! files are possible.
//!
//! | module | content |
//! |---|---|
//! | `request` | the request and its limits |
//! | `programs` | the helper's executables and their libraries |
//! | `compiler` | the start of a helper |
//! | `compiling` | a helper that runs, and its end |
//! | `outcome` | the interpretation of that end: pure |
//! | `cgroup` | the helper's cgroup |
//! | `launch` | the helper's process until it executes its program |
//! | [`protocol`] | messages between host and helper |
//! | `kernel` | system calls without a safe wrapper: the unsafe code |
//! | `error` | errors |

pub mod protocol;

mod cgroup;
mod compiler;
mod compiling;
mod error;
mod kernel;
mod launch;
mod outcome;
mod programs;
mod request;

pub use compiler::Compiler;
pub use compiling::{Compiling, Stop};
pub use error::CompileError;
pub use outcome::{Failed, FailureKind, Outcome, Usage};
pub use programs::{Program, Programs};
pub use protocol::{ARTIFACT, Backend, Form, Tier};
pub use request::{CompileRequest, Limits};
