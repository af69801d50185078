//! Cgroups of containers on cgroup v1 and v2: created, limited, frozen, measured and removed,
//! either directly (cgroupfs) or through systemd.
//!
//! In the order of a container's life:
//! - [`Hierarchies`]: the mounted hierarchies, found once per node host;
//! - `location`: the cgroup that `linux.cgroupsPath` names, in both of its forms;
//! - [`Cgroup`]: the container's cgroup, its operations in `cgroup/`;
//! - `limits`: `linux.resources` as writes to files, decided without I/O;
//! - `scope`: the cgroup as a systemd scope;
//! - `metrics`: the message of containerd's Stats.
//!
//! All calls block. The crate starts no process, and one thread at most (`cgroup/oom_counter.rs`).
//! A value that cannot be set is an error that names the field of the spec. Only what
//! `docs/reference` lists is ignored.

mod cgroup;
mod error;
mod files;
mod hierarchies;
mod limits;
mod metrics;
mod location;
mod scope;
mod wait;

pub use cgroup::{Cgroup, JoinMethod, signal};
pub use error::CgroupError;
pub use hierarchies::{Hierarchies, Version};
