//! What containerd's answer to `Status` says.

use std::collections::BTreeSet;

/// What containerd serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Whether it can run containers (condition `RuntimeReady`).
    pub runtime: Readiness,
    /// Its handlers.
    pub handlers: Handlers,
}

/// Whether containerd can run containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot; its reason and message.
    NotReady(String),
}

/// The names that containerd knows runtimes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handlers {
    /// These and no others. Every configured one is listed, also one whose program is missing.
    Listed(BTreeSet<String>),
    /// containerd does not say; why.
    Unanswerable(String),
}

impl Handlers {
    /// Whether `handler` is served, if containerd says at all.
    pub fn has(&self, handler: &str) -> Option<bool> {
        match self {
            Self::Listed(names) => Some(names.contains(handler)),
            Self::Unanswerable(_) => None,
        }
    }
}
