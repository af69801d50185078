//! containerd's events, followed from a moment that is known.

use std::fs;

use anyhow::{Context as _, Result};
use prost::Message as _;
use testbed::isolated_namespace::Service;
use testbed::wait;

use crate::machine::LIMIT;
use crate::node::Node;
use crate::tasks::Any;

/// The topic of the event by which it is seen that events are seen.
const TOPIC: &str = "/test/followed";

/// Every event since it was made, as `ctr events` writes them: one line each.
#[derive(Debug)]
pub(crate) struct Followed {
    service: Service,
}

impl Followed {
    /// Follows the events of `node`; when this returns, none is missed any more.
    pub(crate) fn of(node: &Node) -> Result<Self> {
        let followed = Self {
            service: node.containerd.events()?,
        };
        // Nothing says when the subscription is made: so an event is told until it is seen. `ctr`
        // prints those of known types.
        let value = OfContainer {
            container_id: node.id("followed"),
        };
        let event = Any {
            type_url: "containerd.events.TaskOOM".to_owned(),
            value: value.encode_to_vec(),
        };
        let seen = || {
            node.tasks().publish(TOPIC, event.clone())?;
            Ok(followed.text()?.contains(&value.container_id).then_some(()))
        };
        wait::until("events to be followed", LIMIT, seen, || {
            followed.service.last_words()
        })?;
        Ok(followed)
    }

    /// All of them.
    pub(crate) fn text(&self) -> Result<String> {
        fs::read(self.service.log())
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .context("read the log of events")
    }

    /// Those that have `word`, an id, as a whole value.
    pub(crate) fn naming(&self, word: &str) -> Result<Vec<String>> {
        let mark = format!("\"{word}\"");
        Ok(self
            .text()?
            .lines()
            .filter(|line| line.contains(&mark))
            .map(str::to_owned)
            .collect())
    }

    /// Waits until one of `topic` that names `word` is there, and gives all that do.
    pub(crate) fn until(&self, word: &str, topic: &str) -> Result<Vec<String>> {
        let there = || Ok(Some(self.naming(word)?).filter(|lines| topics(lines).contains(&topic)));
        wait::until(
            format_args!("the event {topic} of {word}"),
            LIMIT,
            there,
            || self.service.last_words(),
        )
    }
}

/// The topics of lines, without what all tasks' topics begin with.
pub(crate) fn topics(lines: &[String]) -> Vec<&str> {
    lines
        .iter()
        .filter_map(|line| {
            line.split_whitespace()
                .find_map(|word| word.strip_prefix("/tasks/"))
        })
        .collect()
}

#[derive(Clone, PartialEq, prost::Message)]
struct OfContainer {
    #[prost(string, tag = "1")]
    container_id: String,
}
