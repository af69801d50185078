//! The test environment of demos and tests, in the order in which a run uses it.
//!
//! * [`progress`], [`command`], [`wait`]: display, execution and timeouts of every step;
//!   [`descriptors`]: closes inherited descriptors.
//! * [`requirements`]: requirements for this machine, checked before anything starts.
//! * [`versions`], [`cache`], [`apt`], [`go`], [`toolchain`]: pinned versions, and everything that
//!   is fetched or built once.
//! * [`image`], [`registry`]: guests packed as OCI images and artifacts, and the registry that
//!   serves them.
//! * [`runtime_archive`]: the runtime archive that nodes download, and broken ones for tests.
//! * [`examples`]: the programs in `examples/`, their images and expected output.
//! * [`teardown`], [`isolated_namespace`]: clean-up after a run.
//! * [`containerd`], [`cluster`]: the real containerd and clusters that tests use.
//! * [`vm`]: an emulated machine with systemd and cgroup v2.
//! * [`apiserver`]: a Kubernetes API server alone.
//! * [`helm`]: the chart, rendered and installed; [`tour`]: README's commands on a cluster.
//! * [`prepared`]: artifacts that `cargo xtask test` passes to the test programs; [`program`]:
//!   start and end of these programs.
#![forbid(unsafe_code)]

pub mod progress;
pub mod command;
pub mod descriptors;
pub mod wait;
pub mod requirements;
pub mod versions;
pub mod cache;
pub mod apt;
pub mod go;
pub mod toolchain;
pub mod image;
pub mod registry;
pub mod runtime_archive;
pub mod examples;
pub mod teardown;
pub mod isolated_namespace;
pub mod containerd;
pub mod cluster;
pub mod vm;
pub mod apiserver;
pub mod helm;
pub mod tour;
pub mod prepared;
pub mod program;
