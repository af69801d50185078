//! The compile helper: a program that compiles one module and ends.
//!
//! The host has put it into a cgroup and namespaces of its own, with limits (`guest-compiler`). It
//! confines itself before it reads a byte of the module: its libraries are loaded by then, and it
//! needs no file but those that the host sent.
//!
//! | module | content |
//! |---|---|
//! | `program` | the helper from its request to its reply |
//! | `confine` | a root with nothing but the draft, no privileges |
//! | `filter` | the system calls that are left |
//! | `module` | the module's bytes: read, checked, converted, without native code |
//! | `signals` | signals of limits and of aborts, as exit codes |

mod confine;
mod filter;
mod module;
mod program;
mod signals;

pub use program::{Failure, Refusal, Step, Wasm, run, write_artifact};
