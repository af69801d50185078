//! The reports of the node host: events to containerd, and log lines.
//!
//! Neither may ever block the host. What containerd or the journal does not take in time waits in
//! bounded memory; what does not fit is dropped and counted, and the count is logged.
//!
//! | module | contents |
//! |---|---|
//! | [`events`] | task events, in order, also across a restart of containerd |
//! | [`logs`] | a subscriber for `tracing`: lines to containerd's log and to the journal |

#![forbid(unsafe_code)]

pub mod events;
pub mod logs;
