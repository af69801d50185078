//! `artifacts gc`: remnants of killed processes, outdated failures, and artifacts above a limit.

use anyhow::Result;
use artifact_store::{Collected, Key, Store};
use serde::Serialize;

use crate::report::{Report, State};
use crate::table::{Table, short, size};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Collection {
    evicted: Vec<Evicted>,
    unfinished: usize,
    outdated_failures: usize,
    unused_locks: usize,
    bytes: u64,
    max_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Evicted {
    key: Key,
    bytes: u64,
}

pub(crate) fn collect(store: &Store) -> Result<Collection> {
    let Collected {
        evicted,
        drafts,
        failures,
        locks,
    } = store.collect_garbage()?;
    let usage = store.usage()?;
    Ok(Collection {
        evicted: evicted
            .into_iter()
            .map(|(key, bytes)| Evicted { key, bytes })
            .collect(),
        unfinished: drafts,
        outdated_failures: failures,
        unused_locks: locks,
        bytes: usage.bytes,
        max_bytes: usage.max_bytes,
    })
}

impl Collection {
    fn is_above_limit(&self) -> bool {
        self.bytes > self.max_bytes
    }
}

impl Report for Collection {
    fn text(&self) -> String {
        let mut text = format!(
            "evicted {} artifacts, removed {} unfinished ones, {} outdated failures and {} unused \
             locks; {} left\n",
            self.evicted.len(),
            self.unfinished,
            self.outdated_failures,
            self.unused_locks,
            size(self.bytes)
        );
        if !self.evicted.is_empty() {
            let mut table = Table::new(&["EVICTED", "SIZE"]);
            for Evicted { key, bytes } in &self.evicted {
                table.row(vec![short(*key), size(*bytes)]);
            }
            text += &table.text();
        }
        if self.is_above_limit() {
            let max = size(self.max_bytes);
            text += "The limit is not kept, since what is left is in use: ";
            text += &max;
            text.push('\n');
        }
        text
    }

    fn state(&self) -> State {
        State::fine_if(!self.is_above_limit())
    }
}
