//! What the operator asks an installer to do on a node, and what the installer answers.
//!
//! The operator has the cluster's credentials and no access to hosts; the installer has the host's
//! files and no credentials. All that passes between them stands here, so that neither half depends
//! on the other:
//!
//! 1. [`layout`]: where the distributions of Kubernetes keep what the installer needs. The operator
//!    mounts those paths and nothing else; the installer sees on the host whether the operator
//!    guessed right.
//! 2. [`request`]: the argument of an installer Job.
//! 3. [`settings`]: of that, what an admin chooses of the handler.
//! 4. [`report`]: its answer, written to the container's termination message.
#![forbid(unsafe_code)]

pub mod layout;
pub mod request;
pub mod settings;
pub mod report;

pub use layout::{Distribution, Layout, Mount};
pub use report::{Outcome, Reason, Report, Stage};
pub use request::{Artifact, CgroupDriver, ConfigMode, Paths, Request, Verb};
pub use settings::Settings;
