//! What is kept of every request, for a test to look at.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use crate::call::{Target, Verb};

/// A request that was made.
#[derive(Debug, Clone)]
pub struct Call {
    /// When.
    pub at: Timestamp,
    /// By which connection.
    pub by: Arc<str>,
    /// The field manager that it named; empty for none.
    pub manager: String,
    /// What it was about.
    pub target: Target,
    /// The HTTP status of the answer; 0 if there was none.
    pub code: u16,
}

/// How often a kind of requests was made.
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
    /// Resource and subresource, as access rules name them.
    pub fn what(&self) -> String {
        match self.target.subresource.as_str() {
            "" => self.target.resource.to_string(),
            subresource => format!("{}/{subresource}", self.target.resource),
        }
    }
}
