//! The report of an installer. The kubelet keeps 4096 bytes of a termination message, so every text
//! in it is bounded.

use serde::{Deserialize, Serialize};

/// Maximum bytes of a termination message.
pub const MAX_SIZE: usize = 4096;
/// Maximum bytes of a report's message. The other fields fit beside it, even if every byte is
/// escaped.
const MAX_MESSAGE_SIZE: usize = 1200;

/// The result of an installer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The outcome.
    pub outcome: Outcome,
    /// The last stage.
    pub stage: Stage,
    /// The reason, for programs.
    pub reason: Reason,
    /// The reason for people: the object, the problem, and the next step.
    pub message: String,
    /// The node's containerd.
    #[serde(default, rename = "host")]
    pub containerd: ContainerdFacts,
    /// The runtime that the handler leads to now, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<Installed>,
    /// Whether containerd was restarted.
    #[serde(default)]
    pub restart: Restart,
}

/// The outcome of an installer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// The node is as requested, and a guest ran on it.
    Installed,
    /// Nothing of the runtime is left on the node.
    Removed,
    /// The node is unchanged, because the request cannot be fulfilled there.
    Refused,
    /// A stage failed, and the node is as it was before: containerd answers, and the former handler
    /// works.
    RolledBack,
    /// A stage failed, and the rollback failed or no older state is known: the handler does not run
    /// guests. An admin has to repair the node.
    Broken,
}

/// The stages of an installer, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// Checks the node.
    Check,
    /// Places the runtime's folder.
    Artifact,
    /// Edits containerd's configuration.
    Configure,
    /// Restarts containerd.
    Restart,
    /// Runs a guest.
    Verify,
    /// Removes what is not used.
    Clean,
}

/// The reason of an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// Everything succeeded.
    Done,
    /// The runtime does not support the node's kernel, distribution or container runtime.
    Unsupported,
    /// The node is another distribution than its Node object states.
    DistributionMismatch,
    /// Another program's handler has the name.
    HandlerTaken,
    /// The request contradicts itself, or the node.
    InvalidRequest,
    /// The archive does not have the given digest.
    DigestMismatch,
    /// The archive is not a runtime, or is for another architecture.
    InvalidArtifact,
    /// The archive cannot be downloaded.
    Download,
    /// No space, no permission, or a read-only file system.
    HostFiles,
    /// containerd's configuration cannot be read, or the edit would change more than the handler.
    ContainerdConfig,
    /// Another installer runs on the node.
    Locked,
    /// containerd could not be restarted or did not answer afterwards.
    ContainerdRestart,
    /// containerd does not list the handler.
    HandlerMissing,
    /// The smoke guest did not run, or printed something else.
    SmokeFailed,
    /// Containers use the runtime that is to be removed.
    InUse,
    /// The installer was killed, or has a bug.
    Interrupted,
    /// The installer's pod cannot start: its image cannot be pulled, a folder cannot be mounted, or
    /// the pod is not admitted.
    NotStarted,
}

/// Whether a retry can succeed without a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// It can: the cause may pass.
    Later,
    /// It cannot: the request or the node has to change.
    Never,
}

impl Reason {
    /// All reasons, for tables and tests.
    pub const ALL: &'static [Self] = &[
        Self::Done,
        Self::Unsupported,
        Self::DistributionMismatch,
        Self::HandlerTaken,
        Self::InvalidRequest,
        Self::DigestMismatch,
        Self::InvalidArtifact,
        Self::Download,
        Self::HostFiles,
        Self::ContainerdConfig,
        Self::Locked,
        Self::ContainerdRestart,
        Self::HandlerMissing,
        Self::SmokeFailed,
        Self::InUse,
        Self::Interrupted,
        Self::NotStarted,
    ];

    /// Returns the name, as in conditions, Events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "Done",
            Self::Unsupported => "Unsupported",
            Self::DistributionMismatch => "DistributionMismatch",
            Self::HandlerTaken => "HandlerTaken",
            Self::InvalidRequest => "InvalidRequest",
            Self::DigestMismatch => "DigestMismatch",
            Self::InvalidArtifact => "InvalidArtifact",
            Self::Download => "Download",
            Self::HostFiles => "HostFiles",
            Self::ContainerdConfig => "ContainerdConfig",
            Self::Locked => "Locked",
            Self::ContainerdRestart => "ContainerdRestart",
            Self::HandlerMissing => "HandlerMissing",
            Self::SmokeFailed => "SmokeFailed",
            Self::InUse => "InUse",
            Self::Interrupted => "Interrupted",
            Self::NotStarted => "NotStarted",
        }
    }

    /// Returns whether a retry can succeed.
    pub fn retry(self) -> Retry {
        match self {
            Self::Download | Self::Locked | Self::InUse | Self::Interrupted | Self::NotStarted => {
                Retry::Later
            }
            // A full disk has to be emptied; a containerd that failed once is not restarted again
            // and again.
            Self::Done
            | Self::Unsupported
            | Self::DistributionMismatch
            | Self::HandlerTaken
            | Self::InvalidRequest
            | Self::DigestMismatch
            | Self::InvalidArtifact
            | Self::HostFiles
            | Self::ContainerdConfig
            | Self::ContainerdRestart
            | Self::HandlerMissing
            | Self::SmokeFailed => Retry::Never,
        }
    }
}

/// The node's containerd. Empty texts are not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerdFacts {
    /// The version, from its own program.
    #[serde(default, rename = "containerd")]
    pub version: String,
    /// Schema version of the main configuration file; 0 if there is none.
    #[serde(default)]
    pub config_version: u32,
    /// Path of the file that contains the handler: a drop-in or the main file.
    #[serde(default)]
    pub config_path: String,
    /// Whether systemd sets up the cgroups of pods.
    #[serde(default)]
    pub systemd_cgroup: bool,
}

/// A runtime on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Installed {
    /// The runtime's version.
    pub version: String,
    /// SHA-256 of its archive.
    pub sha256: String,
    /// Its folder on the node.
    pub path: String,
}

/// Whether containerd was restarted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// containerd had read its configuration already.
    #[default]
    NotNeeded,
    /// It was restarted, once or more often.
    Done,
}

impl Report {
    /// Returns the report as a termination message of at most [`MAX_SIZE`] bytes.
    pub fn to_message(&self) -> String {
        let text = |report: &Self| {
            serde_json::to_string(report).expect("a report holds texts and names only")
        };
        let mut report = self.clone();
        for limit in [MAX_MESSAGE_SIZE, MAX_MESSAGE_SIZE / 8] {
            bound(&mut report.message, limit);
            let message = text(&report);
            if message.len() <= MAX_SIZE {
                return message;
            }
        }
        // The texts about containerd are too long: the outcome matters more.
        text(&Self {
            containerd: ContainerdFacts::default(),
            installed: None,
            ..report
        })
    }

    /// Parses a termination message.
    ///
    /// # Errors
    /// If it is not a report, as after a kill.
    pub fn from_message(message: &str) -> Result<Self, NoReport> {
        serde_json::from_str(message).map_err(|source| NoReport { source })
    }
}

/// A termination message that is not a report.
#[derive(Debug, thiserror::Error)]
#[error("the installer left no report")]
pub struct NoReport {
    source: serde_json::Error,
}

/// Cuts `text` to `limit` bytes at character boundaries. The middle goes: the end of an error is
/// its cause.
fn bound(text: &mut String, limit: usize) {
    const GAP: &str = " … ";
    if text.len() <= limit {
        return;
    }
    let half = (limit - GAP.len()) / 2;
    let head = text.floor_char_boundary(half);
    let tail = text.ceil_char_boundary(text.len() - half);
    text.replace_range(head..tail, GAP);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report(message: String, version: String) -> Report {
        Report {
            outcome: Outcome::RolledBack,
            stage: Stage::Verify,
            reason: Reason::SmokeFailed,
            message,
            containerd: ContainerdFacts {
                version: "2.4.2".to_owned(),
                ..ContainerdFacts::default()
            },
            installed: Some(Installed {
                version,
                sha256: "0".repeat(64),
                path: "/opt".to_owned(),
            }),
            restart: Restart::Done,
        }
    }

    #[test]
    fn report_is_read_as_it_was_written() {
        let report = report("the guest said nothing".to_owned(), "0.1.0".to_owned());
        assert_eq!(Report::from_message(&report.to_message()).unwrap(), report);
        assert!(Report::from_message("Killed").is_err());
    }

    #[test]
    fn long_message_keeps_its_beginning_and_its_end() {
        let mut text = format!("begin {} end", "é".repeat(5000));
        bound(&mut text, 100);
        assert!(
            text.len() <= 100 && text.starts_with("begin") && text.ends_with("end"),
            "{text}"
        );
    }

    #[test]
    fn name_of_a_reason_is_the_one_in_the_report() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }

    proptest! {
        #[test]
        fn report_fits_into_a_termination_message(
            message in "\\PC{0,3000}|[\\x00-\\x1f]{0,4000}",
            version in "[\"\\x01]{0,3000}",
        ) {
            let text = report(message, version).to_message();
            prop_assert!(text.len() <= MAX_SIZE, "{}", text.len());
            prop_assert!(Report::from_message(&text).is_ok());
        }
    }
}
