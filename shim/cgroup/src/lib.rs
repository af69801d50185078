//! The cgroup of a container: made, limited, frozen, measured, removed, on cgroup v1 and v2, by our
//! own hand (cgroupfs) or by systemd's.
//!
//! In the order in which a container meets them:
//! - [`Hierarchies`]: where cgroups are mounted, found once per host;
//! - `place`: what `linux.cgroupsPath` means, in both of its forms;
//! - [`Cgroup`]: the container's cgroup, its verbs in `cgroup/`;
//! - `limits`: `linux.resources` as writes to files, decided without touching one;
//! - `scope`: the cgroup as a scope of systemd;
//! - `metrics`: what containerd's Stats says.
//!
//! Everything blocks and nothing here starts a process, nor a thread but for scopes
//! (`cgroup/kills.rs`). Whatever cannot be set is an error that names the field of the spec;
//! nothing is left out in silence but what `docs/reference` says is ignored.

mod cgroup;
mod error;
mod files;
mod hierarchies;
mod limits;
mod metrics;
mod place;
mod scope;
mod wait;

pub use cgroup::{Cgroup, Entrance, signal};
pub use error::CgroupError;
pub use hierarchies::{Hierarchies, Version};
pub use place::Driver;
