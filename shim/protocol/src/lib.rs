//! What the launcher and the host agree on. The launcher runs for a millisecond, so this crate
//! decides in plain functions, touches files with plain calls, and depends on little.
//!
//! | module | holds |
//! |---|---|
//! | [`options`] | the runtime options of a handler in containerd's configuration |
//! | [`start_input`] | what containerd writes to the launcher, in each of its versions |
//! | [`host`] | which containers share a host, where that listens, and who may start or end it |
//! | [`record`] | what of a container must be removed when its host died |
//! | [`features`] | what the runtime can do, as far as both say it |
//! | [`identifier`] | which texts are ids of containers and names of namespaces |
//! | [`wire`] | the little of protobuf that these messages need |
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
