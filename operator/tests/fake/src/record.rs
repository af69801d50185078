//! The record of requests, for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use crate::call::{Target, Verb};

/// A recorded request.
#[derive(Debug, Clone)]
pub struct Call {
    /// The time.
    pub at: Timestamp,
    /// The name of the connection.
    pub by: Arc<str>,
    /// The field manager; empty for none.
    pub manager: String,
    /// The target.
    pub target: Target,
    /// The HTTP status of the answer; 0 if there was none.
    pub code: u16,
}

/// The number of requests of each kind.
pub type Counts = BTreeMap<(Verb, String), usize>;

/// Counts requests by verb and resource, subresources apart.
pub fn count<'a>(calls: impl IntoIterator<Item = &'a Call>) -> Counts {
    let mut counts = Counts::new();
    for call in calls {
        *counts.entry((call.target.verb, call.what())).or_default() += 1;
    }
    counts
}

impl Call {
    /// Returns resource and subresource in the form of access rules.
    pub fn what(&self) -> String {
        match self.target.subresource.as_str() {
            "" => self.target.resource.to_string(),
            subresource => format!("{}/{subresource}", self.target.resource),
        }
    }
}
