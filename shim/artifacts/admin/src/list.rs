//! `artifacts list`: all artifacts, and compiles that failed.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use artifact_store::{Content, Key, Listed, Record, RememberedFailure, Store, Use};
use serde::Serialize;

use crate::report::{Report, State};
use crate::table::{Table, age, plain, seconds, short, size};

/// The list. Times are seconds since 1970.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct List {
    folder: PathBuf,
    bytes: u64,
    free_bytes: u64,
    artifacts: Vec<Entry>,
    failures: Vec<RememberedFailure>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    key: Key,
    bytes: u64,
    last_use: u64,
    in_use: bool,
    #[serde(flatten)]
    content: EntryContent,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", tag = "state")]
enum EntryContent {
    /// Its record is readable; `verify` compares the artifact.
    Known {
        record: Box<Record>,
    },
    /// Of another version of the runtime.
    OtherFormat {
        format: u32,
    },
    Damaged {
        reason: String,
    },
}

pub(crate) fn list(store: &Store, folder: &Path) -> Result<List> {
    let usage = store.usage()?;
    Ok(List {
        folder: folder.to_owned(),
        bytes: usage.bytes,
        free_bytes: usage.free_bytes,
        artifacts: store.list()?.into_iter().map(Entry::from).collect(),
        failures: store.failures()?,
    })
}

impl From<Listed> for Entry {
    fn from(listed: Listed) -> Self {
        Self {
            key: listed.key,
            bytes: listed.bytes,
            last_use: seconds(listed.last_use),
            in_use: listed.in_use == Use::InUse,
            content: match listed.content {
                Content::Known(record) => EntryContent::Known { record },
                Content::OtherFormat(format) => EntryContent::OtherFormat { format },
                Content::Damaged(reason) => EntryContent::Damaged { reason },
            },
        }
    }
}

impl Entry {
    /// Returns engine, version, tier and module.
    fn description(&self) -> [String; 4] {
        match &self.content {
            EntryContent::Known { record } => {
                let inputs = &record.inputs;
                [
                    inputs.engine.to_string(),
                    plain(&inputs.version),
                    inputs.tier.to_string(),
                    plain(&record.module_name),
                ]
            }
            EntryContent::OtherFormat { format } => {
                let what = format!("of another version of the runtime (format {format})");
                ["?".to_owned(), "?".to_owned(), "?".to_owned(), what]
            }
            EntryContent::Damaged { reason } => {
                let what = format!("damaged: {}", plain(reason));
                ["?".to_owned(), "?".to_owned(), "?".to_owned(), what]
            }
        }
    }
}

impl Report for List {
    fn text(&self) -> String {
        let now = SystemTime::now();
        let since = |seconds: u64| {
            SystemTime::UNIX_EPOCH
                .checked_add(Duration::from_secs(seconds))
                .map_or_else(|| "?".to_owned(), |time| age(time, now))
        };
        let headings = [
            "KEY", "SIZE", "LAST USE", "IN USE", "ENGINE", "VERSION", "TIER", "MODULE",
        ];
        let mut table = Table::new(&headings);
        for entry in &self.artifacts {
            let in_use = if entry.in_use { "yes" } else { "no" };
            let mut cells = vec![
                short(entry.key),
                size(entry.bytes),
                since(entry.last_use),
                in_use.to_owned(),
            ];
            cells.extend(entry.description());
            table.row(cells);
        }
        let mut text = format!(
            "{} artifacts with {} in {}, {} free\n",
            self.artifacts.len(),
            size(self.bytes),
            self.folder.display(),
            size(self.free_bytes)
        );
        if !self.artifacts.is_empty() {
            text += &table.text();
        }
        if !self.failures.is_empty() {
            text += "\nFailed compiles, which are not tried again for a day:\n";
            let mut table = Table::new(&["KEY", "FAILED", "ENGINE", "TIER", "MODULE", "REASON"]);
            for failure in &self.failures {
                table.row(vec![
                    short(failure.key),
                    since(failure.failed),
                    failure.inputs.engine.to_string(),
                    failure.inputs.tier.to_string(),
                    plain(&failure.module_name),
                    plain(&failure.reason),
                ]);
            }
            text += &table.text();
        }
        text
    }

    fn state(&self) -> State {
        State::Fine
    }
}
