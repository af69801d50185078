//! The request that the operator gives an installer, and the report that it gets back.
//!
//! The operator has the cluster's credentials and no access to nodes' files. The installer has the
//! node's files and no credentials. Everything that they exchange is here, so neither depends on
//! the other:
//!
//! 1. [`layout`]: the paths of each Kubernetes distribution. The operator mounts those and nothing
//!    else; the installer checks on the node that the operator chose the right distribution.
//! 2. [`request`]: the argument of an installer Job.
//! 3. [`settings`]: the part of it that an admin chooses for the handler.
//! 4. [`report`]: the result, written to the container's termination message.
#![forbid(unsafe_code)]

pub mod layout;
pub mod request;
pub mod settings;
pub mod report;

pub use layout::{Distribution, Layout, Mount};
pub use report::{Outcome, Reason, Report, Stage};
pub use request::{Artifact, CgroupDriver, ConfigMode, Paths, Request, Verb};
pub use settings::Settings;
