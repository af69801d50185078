//! The files that were written for a handler, so that it can be removed again.

use installer_protocol::Settings;
use serde::{Deserialize, Serialize};

/// The files that were written for a handler. A part of the installer's record on the node's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WrittenHandler {
    /// The handler's name.
    pub handler: String,
    /// Its settings. An older installer, which may run again, ignores them.
    #[serde(default, skip_serializing_if = "Settings::is_default")]
    pub settings: Settings,
    /// Every file that was edited.
    pub files: Vec<WrittenFile>,
    /// The folders that were created for the files, to be removed with the handler if they are
    /// empty.
    #[serde(default)]
    pub made_folders: Vec<String>,
}

/// A file that was edited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WrittenFile {
    /// Its path on the node.
    pub path: String,
    /// Its content without the handler; none if it would not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Its content with the handler.
    pub after: String,
}

#[cfg(test)]
mod tests {
    use runtime_options::{HandlerOptions, LogLevel};

    use super::*;

    #[test]
    fn written_handler_of_an_older_installer_has_default_settings() {
        let former = r#"{"handler":"wasmedge","files":[],"madeFolders":[]}"#;
        let record: WrittenHandler = serde_json::from_str(former).unwrap();
        assert_eq!(record.settings, Settings::default());
        assert_eq!(serde_json::to_string(&record).unwrap(), former);
        let chosen = WrittenHandler {
            settings: Settings {
                options: HandlerOptions {
                    log_level: LogLevel::Warn,
                    ..HandlerOptions::default()
                },
                ..Settings::default()
            },
            ..record
        };
        let text = serde_json::to_string(&chosen).unwrap();
        assert_eq!(
            serde_json::from_str::<WrittenHandler>(&text).unwrap(),
            chosen
        );
    }
}
