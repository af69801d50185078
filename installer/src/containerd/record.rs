//! What was written for a handler, so that it can be taken back.

use installer_protocol::Settings;
use serde::{Deserialize, Serialize};

/// What was written for a handler. It is kept on the node's disk as a part of the installer's
/// record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The handler's name.
    pub handler: String,
    /// What is chosen of it. A former installer, which may come again, passes over this.
    #[serde(default, skip_serializing_if = "Settings::is_default")]
    pub settings: Settings,
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

#[cfg(test)]
mod tests {
    use installer_protocol::settings::LogLevel;

    use super::*;

    #[test]
    fn a_former_record_is_one_of_a_handler_that_nothing_was_chosen_of() {
        let former = r#"{"handler":"wasmedge","files":[],"madeFolders":[]}"#;
        let record: Record = serde_json::from_str(former).unwrap();
        assert_eq!(record.settings, Settings::default());
        assert_eq!(serde_json::to_string(&record).unwrap(), former);
        let chosen = Record {
            settings: Settings {
                log_level: LogLevel::Warn,
                ..Settings::default()
            },
            ..record
        };
        let text = serde_json::to_string(&chosen).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), chosen);
    }
}
