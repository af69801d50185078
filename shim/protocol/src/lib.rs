//! The agreement between the launcher and the node host. The launcher runs for a millisecond, so
//! this crate decides in plain functions, uses plain file calls, and has few dependencies.
//!
//! | module | holds |
//! |---|---|
//! | [`options`] | the runtime options of a handler in containerd's configuration |
//! | [`start_input`] | the launcher's standard input, in each version of containerd |
//! | [`host`] | the containers that share a host, its socket, and the rules of its start and end |
//! | [`record`] | what to remove of a container after its host died |
//! | [`features`] | features that both programs report |
//! | [`identifier`] | the syntax of container ids and namespaces |
//! | [`wire`] | the part of protobuf that these messages need |
#![forbid(unsafe_code)]

pub mod wire;
pub mod options;
pub mod start_input;
pub mod host;
pub mod record;
pub mod features;
pub mod identifier;
mod file;
mod hash;

pub use file::FileError;
