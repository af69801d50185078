//! A Kubernetes API server inside a test's process, and nodes that are simulated. A test starts it
//! with [`Cluster::start`], hands the client of a [`Connection`] to what it tests, and looks at
//! objects and calls afterwards.
//!
//! * [`clock`]: one time for the server, the nodes and what is tested; it passes as fast as a test
//!   can use it.
//! * [`resource`]: which kinds of objects there are, and the rules that differ between them.
//! * [`refusal`]: every answer that is not the wanted one.
//! * [`selector`]: labels and fields by which lists and watches choose.
//! * [`store`]: the objects, and what changed in which order. [`write`](mod@write), [`apply`],
//!   [`delete`], [`rules`]: how they change.
//! * [`call`], [`watch`], [`record`]: requests as the server sees them, answers that go on, and
//!   what is kept of both.
//! * [`faults`]: what goes wrong on demand, the same each time for the same seed.
//! * [`cluster`]: all of it behind the service that `kube::Client` takes.
//! * [`fleet`]: nodes that run installer Jobs by a script. [`guard`]: what has to hold at every
//!   moment meanwhile.
//!
//! What it leaves out: admission, authentication, quotas, schemas of custom resources, and every
//! controller but the garbage collector and that of Jobs. Server-side apply takes every list as one
//! value, apart from finalizers and owners.
#![forbid(unsafe_code)]

pub mod clock;
pub mod resource;
pub mod refusal;
pub mod selector;
pub mod store;
pub mod write;
pub mod apply;
pub mod delete;
pub mod rules;
pub mod call;
pub mod watch;
pub mod record;
pub mod faults;
pub mod cluster;
pub mod fleet;
pub mod guard;

#[cfg(test)]
mod tests;

pub use cluster::{Cluster, Connection};
pub use faults::Faults;
pub use fleet::{Fleet, Joining, Script};
pub use guard::Guard;
pub use refusal::Refusal;
pub use resource::Resource;
pub use store::{Change, Happened, Key};
