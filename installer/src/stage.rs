//! The stages of an installation, in their order. Each can run again at any time, on whatever a
//! killed run left behind, and returns what it changed.
//!
//! | stage | does | changes |
//! |---|---|---|
//! | [`check`] | checks distribution, kernel, containerd, cgroups, other runtimes | nothing |
//! | [`artifact`] | fetches and unpacks the archive | a new folder beside other versions |
//! | [`configure`] | edits containerd's configuration after a trial run | its files |
//! | [`restart`] | restarts containerd if it has not read the files | |
//! | [`verify`] | runs a guest through the handler | |
//! | [`clean`] | removes what is not used | folders of former versions |
//!
//! After the first write of [`configure`] a failure causes a rollback.
//!
//! [`usage`] finds the containers that run from the runtime; [`artifact`] and [`clean`] ask it.

pub mod check;
pub mod usage;
pub mod artifact;
pub mod configure;
pub mod restart;
pub mod clean;
pub mod verify;
