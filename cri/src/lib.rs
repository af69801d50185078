//! A client of containerd's CRI, version 1, for the installer, tests and benchmarks.
//!
//! * [`message`] and [`config`]: requests and answers; configurations of pods and containers.
//! * [`method`]: the methods with their messages.
//! * [`channel`]: the connection to containerd's socket, and a call through it.
//! * [`Client`]: asynchronous calls with timeouts and typed errors.
//! * [`blocking`]: the same calls for tests, through a connection of the test.
//!
//! The messages are written by hand, with only the fields that are used here: fields that are not
//! written have their defaults, and others are skipped when a message is read. Generated messages
//! would need a protobuf compiler, or a crate that follows Kubernetes' releases.
//!
//! Numbers and meanings: `k8s.io/cri-api`, `pkg/apis/runtime/v1/api.proto`, as of Kubernetes 1.37.
//! A number never changes its meaning. The installer's fields exist since the first v1 (Kubernetes
//! 1.20), except `runtime_handlers` (1.30).
#![forbid(unsafe_code)]

pub mod blocking;
pub mod channel;
mod client;
pub mod config;
mod error;
pub mod message;
pub mod method;

pub use client::{Client, START_TIMEOUT};
pub use error::CriError;
pub use method::Method;

#[cfg(test)]
mod tests;
