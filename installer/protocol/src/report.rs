//! An installer's answer. The kubelet keeps 4096 bytes of a termination message, so every text in
//! it is bounded.

use serde::{Deserialize, Serialize};

/// Bytes of a termination message that the kubelet keeps.
pub const LIMIT: usize = 4096;
/// Bytes of a report's message: the rest of the report has room beside it, also when each byte is
/// escaped.
const MESSAGE_LIMIT: usize = 1200;

/// What an installer did, and what it found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// The stage that it ended in.
    pub stage: Stage,
    /// Why, in a word that programs read.
    pub reason: Reason,
    /// Why, for people: the object, what is wrong, the next step.
    pub message: String,
    /// What the host is.
    #[serde(default, rename = "host")]
    pub containerd: ContainerdFacts,
    /// The runtime that the handler leads to now; none where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<Installed>,
    /// Whether containerd was restarted.
    #[serde(default)]
    pub restart: Restart,
}

/// How an installer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// The node is as the request says, and a guest ran there.
    Installed,
    /// Nothing of the runtime is left on the node.
    Removed,
    /// The node was not touched, because the request cannot be fulfilled there.
    Refused,
    /// It failed, and the node is as it was before: containerd answers, and what ran before runs.
    RolledBack,
    /// It failed, and the node could not be brought back, or nothing is known that it could be
    /// brought back to: the handler does not run guests. Somebody has to look.
    Broken,
}

/// The stages of an installer, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// Looking at the host.
    Check,
    /// Getting the runtime's folder into place.
    Artifact,
    /// Telling containerd of it.
    Configure,
    /// Restarting containerd.
    Restart,
    /// Running a guest.
    Verify,
    /// Removing what is no longer used.
    Clean,
}

/// Why an installer ended as it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// All went well.
    Done,
    /// The node's kernel, distribution or container runtime is none that the runtime can be used
    /// with.
    Unsupported,
    /// The host is another distribution than its Node object says.
    DistributionMismatch,
    /// The handler's name is in use by something that is not ours.
    HandlerTaken,
    /// A request that contradicts itself, or the node.
    InvalidRequest,
    /// The archive is not the one whose digest is given.
    DigestMismatch,
    /// The archive is no runtime, or one for another architecture.
    InvalidArtifact,
    /// The archive cannot be had.
    Download,
    /// No space, no permission, a read-only file system.
    HostFiles,
    /// containerd's configuration cannot be read, or the edited one would change more than the
    /// handler.
    ContainerdConfig,
    /// Another installer is at work on the node.
    Locked,
    /// containerd could not be restarted or did not answer afterwards.
    ContainerdRestart,
    /// containerd does not list the handler.
    HandlerMissing,
    /// The smoke guest did not run, or did not say what it should.
    SmokeFailed,
    /// Containers still use the runtime that is to be removed.
    InUse,
    /// The installer was killed or failed at something of its own.
    Interrupted,
    /// The installer's pod cannot start: its image cannot be pulled, a folder cannot be mounted, or
    /// the pod is not admitted.
    NotStarted,
}

/// Whether trying again can help without anybody's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// It can: what was wrong passes.
    Later,
    /// It cannot: the request or the node has to change.
    Never,
}

impl Reason {
    /// Every reason, for tables and tests.
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

    /// The word, as conditions, Events and metrics have it.
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

    /// Whether trying again can help.
    pub fn retry(self) -> Retry {
        match self {
            Self::Download | Self::Locked | Self::InUse | Self::Interrupted | Self::NotStarted => {
                Retry::Later
            }
            // A full disk is somebody's to empty; a containerd that failed once is not restarted
            // again and again.
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

/// What an installer saw of its host. Empty texts are what it did not get to see.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerdFacts {
    /// containerd's version, as its own program says.
    #[serde(default, rename = "containerd")]
    pub version: String,
    /// Schema version of containerd's main configuration file; 0 where there is none.
    #[serde(default)]
    pub config_version: u32,
    /// Whether the handler stands in a drop-in or in the main file.
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
    /// SHA-256 of the archive that it came in.
    pub sha256: String,
    /// Its folder on the node.
    pub path: String,
}

/// Whether containerd was restarted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// It had read its configuration already.
    #[default]
    NotNeeded,
    /// It was, once or more often.
    Done,
}

impl Report {
    /// The report as a termination message of at most [`LIMIT`] bytes.
    pub fn to_message(&self) -> String {
        let text = |report: &Self| {
            serde_json::to_string(report).expect("a report holds texts and names only")
        };
        let mut report = self.clone();
        for limit in [MESSAGE_LIMIT, MESSAGE_LIMIT / 8] {
            bound(&mut report.message, limit);
            let message = text(&report);
            if message.len() <= LIMIT {
                return message;
            }
        }
        // What the host said of itself is too long: the outcome matters more.
        text(&Self {
            containerd: ContainerdFacts::default(),
            installed: None,
            ..report
        })
    }

    /// Reads a termination message.
    ///
    /// # Errors
    /// When it is none of an installer's, as after a kill.
    pub fn from_message(message: &str) -> Result<Self, NoReport> {
        serde_json::from_str(message).map_err(|source| NoReport { source })
    }
}

/// A termination message that no installer wrote.
#[derive(Debug, thiserror::Error)]
#[error("the installer left no report")]
pub struct NoReport {
    source: serde_json::Error,
}

/// Cuts `text` to `limit` bytes, at a letter's end; the end of an error is what names the cause, so
/// the middle goes.
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
    fn a_report_is_read_as_it_was_written() {
        let report = report("the guest said nothing".to_owned(), "0.1.0".to_owned());
        assert_eq!(Report::from_message(&report.to_message()).unwrap(), report);
        assert!(Report::from_message("Killed").is_err());
    }

    #[test]
    fn a_long_message_keeps_its_beginning_and_its_end() {
        let mut text = format!("begin {} end", "é".repeat(5000));
        bound(&mut text, 100);
        assert!(
            text.len() <= 100 && text.starts_with("begin") && text.ends_with("end"),
            "{text}"
        );
    }

    #[test]
    fn a_reasons_word_is_the_one_in_the_report() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }

    proptest! {
        #[test]
        fn a_report_fits_into_a_termination_message(
            message in "\\PC{0,3000}|[\\x00-\\x1f]{0,4000}",
            version in "[\"\\x01]{0,3000}",
        ) {
            let text = report(message, version).to_message();
            prop_assert!(text.len() <= LIMIT, "{}", text.len());
            prop_assert!(Report::from_message(&text).is_ok());
        }
    }
}
