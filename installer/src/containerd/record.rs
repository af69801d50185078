//! What was written for a handler, so that it can be taken back.

use serde::{Deserialize, Serialize};

/// What was written for a handler. It is kept on the node's disk as a part of the installer's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The handler's name.
    pub handler: String,
    /// Every file that was edited.
    pub files: Vec<Written>,
    /// Folders that were made for them: to be removed once they are empty, when all is taken back.
    #[serde(default)]
    pub made_folders: Vec<String>,
}

/// A file that was edited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    /// Its path on the host.
    pub path: String,
    /// What it would hold without the handler; none where there would be no such file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What it held with the handler.
    pub after: String,
}
