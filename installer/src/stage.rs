//! The stages of an installation, in their order. Each can run again at any time, on whatever a
//! killed run left behind, and returns what it changed.
//!
//! | stage | does | changes |
//! |---|---|---|
//! | [`check`] | checks distribution, kernel, containerd, cgroup driver and other runtimes | nothing |
//! | [`artifact`] | fetches and unpacks the archive | a new folder beside other versions |
//! | [`configure`] | edits containerd's configuration after a trial run of the edit | its files; from here on a failure causes a rollback |
//! | [`restart`] | restarts containerd if it has not read the files | |
//! | [`verify`] | runs a guest through the handler | |
//! | [`clean`] | removes what is not used | folders of former versions |
//!
//! [`usage`] finds the containers that run from the runtime; [`artifact`] and [`clean`] ask it.

pub mod check;
pub mod usage;
pub mod artifact;
pub mod configure;
pub mod restart;
pub mod clean;
pub mod verify;
