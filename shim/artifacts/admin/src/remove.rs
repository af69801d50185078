//! `artifacts remove`: artifacts that are not in use.

use anyhow::Result;
use artifact_store::{Key, Removal, Store};
use serde::Serialize;

use crate::report::{Report, State};
use crate::select::{Prefix, known, select};
use crate::table::{Table, short};

#[derive(Debug, Serialize)]
pub(crate) struct Removals {
    artifacts: Vec<Removed>,
}

#[derive(Debug, Serialize)]
struct Removed {
    key: Key,
    result: Shown,
}

/// A result, as programs read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Shown {
    Removed,
    InUse,
}

/// Removes the artifacts of these keys.
pub(crate) fn remove(store: &Store, keys: &[Prefix]) -> Result<Removals> {
    let mut artifacts = Vec::new();
    for key in select(keys, &known(store)?)? {
        let result = match store.remove(&key)? {
            // Another process was faster.
            Removal::Removed | Removal::Missing => Shown::Removed,
            Removal::InUse => Shown::InUse,
        };
        artifacts.push(Removed { key, result });
    }
    Ok(Removals { artifacts })
}

impl Report for Removals {
    fn text(&self) -> String {
        let mut table = Table::new(&["KEY", "RESULT"]);
        for Removed { key, result } in &self.artifacts {
            let result = match result {
                Shown::Removed => "removed",
                Shown::InUse => "in use: a container runs it; delete the container first",
            };
            table.row(vec![short(*key), result.to_owned()]);
        }
        table.text()
    }

    fn state(&self) -> State {
        State::fine_if(self.artifacts.iter().all(|it| it.result == Shown::Removed))
    }
}
