//! What the host tells: events to containerd, lines to its logs.
//!
//! Neither may ever hold the host up: what containerd or the journal does not take in time waits in
//! bounded memory, and what finds no room there is counted, and the count is told.
//!
//! | module | what |
//! |---|---|
//! | [`events`] | task events, in the order in which they happened, also across a restart of containerd |
//! | [`logs`] | a subscriber for `tracing`: lines to containerd's log and to the journal |

#![forbid(unsafe_code)]

pub mod events;
pub mod logs;
