//! `artifacts verify`: artifacts compared with their digests.

use anyhow::Result;
use artifact_store::{Key, Store, Verdict};
use serde::Serialize;

use crate::report::{Report, State};
use crate::select::{Prefix, select};
use crate::table::{Table, plain, short};

#[derive(Debug, Serialize)]
pub(crate) struct Verification {
    artifacts: Vec<Verified>,
}

#[derive(Debug, Serialize)]
struct Verified {
    key: Key,
    #[serde(flatten)]
    verdict: Shown,
}

/// A verdict, as programs read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", tag = "verdict")]
enum Shown {
    Sound,
    /// Of another version of the runtime: it is not known what is right.
    OtherFormat {
        format: u32,
    },
    Damaged {
        reason: String,
    },
}

/// Verifies the artifacts of these keys, or all.
pub(crate) fn verify(store: &Store, keys: &[Prefix]) -> Result<Verification> {
    let all: Vec<Key> = store.list()?.iter().map(|entry| entry.key).collect();
    let keys = if keys.is_empty() {
        all
    } else {
        select(keys, &all)?
    };
    let mut artifacts = Vec::new();
    for key in keys {
        let verdict = match store.verify(&key)? {
            Some(Verdict::Sound) => Shown::Sound,
            Some(Verdict::OtherFormat(format)) => Shown::OtherFormat { format },
            Some(Verdict::Damaged(reason)) => Shown::Damaged { reason },
            // Removed since the list was made.
            Some(Verdict::Leaving) | None => continue,
        };
        artifacts.push(Verified { key, verdict });
    }
    Ok(Verification { artifacts })
}

impl Verified {
    fn is_damaged(&self) -> bool {
        matches!(self.verdict, Shown::Damaged { .. })
    }
}

impl Report for Verification {
    fn text(&self) -> String {
        let mut table = Table::new(&["KEY", "VERDICT"]);
        for Verified { key, verdict } in &self.artifacts {
            let verdict = match verdict {
                Shown::Sound => "sound".to_owned(),
                Shown::OtherFormat { format } => {
                    format!("of another version of the runtime (format {format})")
                }
                Shown::Damaged { reason } => format!("damaged: {}", plain(reason)),
            };
            table.row(vec![short(*key), verdict]);
        }
        let damaged = self.artifacts.iter().filter(|it| it.is_damaged()).count();
        let mut text = format!("{} verified, {damaged} damaged\n", self.artifacts.len());
        if !self.artifacts.is_empty() {
            text += &table.text();
        }
        if damaged > 0 {
            text +=
                "A host never loads a damaged artifact; remove it with `artifacts remove KEY`\n";
        }
        text
    }

    fn state(&self) -> State {
        State::fine_if(!self.artifacts.iter().any(Verified::is_damaged))
    }
}
