//! What a demo or a test needs of the outside world, in the order in which a run meets it.
//!
//! * [`progress`], [`command`], [`wait`]: how every step is shown, run and waited for;
//!   [`descriptors`]: what no step inherits.
//! * [`host`]: what this machine must have, checked before anything starts.
//! * [`versions`], [`cache`], [`apt`], [`go`], [`toolchain`]: what is fetched or built once, and
//!   which version of it.
//! * [`image`], [`registry`]: guests packed as OCI images and artifacts, and where they are pulled
//!   from.
//! * [`runtime_archive`]: the runtime as nodes download it, and broken ones for tests.
//! * [`examples`]: the programs in `examples/`, built, packed, and what their pods must print.
//! * [`teardown`], [`isolated_namespace`]: how a run leaves nothing behind.
//! * [`containerd`], [`cluster`]: the real thing that tests talk to.
//! * [`vm`]: a machine with systemd and cgroup v2, emulated.
//! * [`apiserver`]: a Kubernetes API server alone.
//! * [`helm`]: the chart, rendered and installed; [`tour`]: README's commands on a cluster.
//! * [`prepared`]: what `cargo xtask test` hands to the test programs; [`program`]: how these begin
//!   and end.
#![forbid(unsafe_code)]

pub mod progress;
pub mod command;
pub mod descriptors;
pub mod wait;
pub mod host;
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
