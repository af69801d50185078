//! containerd's events, followed from a known moment.

use std::fs;

use anyhow::{Context as _, Result};
use prost::Message as _;
use testbed::isolated_namespace::Service;
use testbed::wait;

use crate::machine::SETTLE_TIMEOUT;
use crate::node::Node;
use crate::tasks::Any;

/// Topic of the event that shows that the subscription is active.
const PROBE_TOPIC: &str = "/test/followed";

/// Every event since its creation, as `ctr events` writes them: one line each.
#[derive(Debug)]
pub(crate) struct EventLog {
    service: Service,
}

impl EventLog {
    /// Follows the events of `node`; when this returns, no event is missed.
    pub(crate) fn follow(node: &Node) -> Result<Self> {
        let followed = Self {
            service: node.containerd.events()?,
        };
        // The start of the subscription is not reported, so an event is published until it is seen.
        // `ctr` prints events of known types.
        let value = OfContainer {
            container_id: node.id("followed"),
        };
        let event = Any {
            type_url: "containerd.events.TaskOOM".to_owned(),
            value: value.encode_to_vec(),
        };
        let seen = || {
            node.tasks().publish(PROBE_TOPIC, event.clone())?;
            Ok(followed.text()?.contains(&value.container_id).then_some(()))
        };
        wait::until("events to be followed", SETTLE_TIMEOUT, seen, || {
            followed.service.log_tail()
        })?;
        Ok(followed)
    }

    /// Returns all events.
    pub(crate) fn text(&self) -> Result<String> {
        fs::read(self.service.log())
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .context("read the log of events")
    }

    /// Returns the events that have `id` as a whole value.
    pub(crate) fn mentioning(&self, id: &str) -> Result<Vec<String>> {
        let mark = format!("\"{id}\"");
        Ok(self
            .text()?
            .lines()
            .filter(|line| line.contains(&mark))
            .map(str::to_owned)
            .collect())
    }

    /// Waits for an event of `topic` that has `id`, and returns all that have it.
    pub(crate) fn until(&self, id: &str, topic: &str) -> Result<Vec<String>> {
        let there =
            || Ok(Some(self.mentioning(id)?).filter(|lines| topics(lines).contains(&topic)));
        wait::until(
            format_args!("the event {topic} of {id}"),
            SETTLE_TIMEOUT,
            there,
            || self.service.log_tail(),
        )
    }
}

/// Returns the topics of lines, without the common prefix of all tasks' topics.
pub(crate) fn topics(lines: &[String]) -> Vec<&str> {
    lines
        .iter()
        .filter_map(|line| {
            line.split_whitespace()
                .find_map(|id| id.strip_prefix("/tasks/"))
        })
        .collect()
}

#[derive(Clone, PartialEq, prost::Message)]
struct OfContainer {
    #[prost(string, tag = "1")]
    container_id: String,
}
