//! A fake Kubernetes API server inside a test's process, and simulated nodes. A test starts it with
//! [`Cluster::start`], passes the client of a [`Connection`] to the code under test, and checks
//! objects and calls afterwards.
//!
//! * [`clock`]: simulated time for the server, the nodes and the code under test.
//! * [`resource`]: the kinds of objects, and the rules that differ between them.
//! * [`refusal`]: error answers.
//! * [`selector`]: label and field selectors of lists and watches.
//! * [`store`]: the objects and their history. [`write`](mod@write), [`apply`], [`delete`],
//!   [`rules`]: how they change.
//! * [`call`], [`watch`], [`record`]: requests, watches, and the record of both.
//! * [`faults`]: injected faults, the same for the same seed.
//! * [`cluster`]: all of it behind the service that `kube::Client` uses.
//! * [`fleet`]: nodes that run installer Jobs by a script. [`guard`]: invariants that are checked
//!   at every change.
//!
//! Not included: admission, authentication, quotas, schemas of custom resources, and all
//! controllers except the garbage collector and that of Jobs. Server-side apply treats every list
//! as one value, except finalizers and owners.
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
pub use store::{Change, ChangeKind, Key};
