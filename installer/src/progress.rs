//! The progress of a run: its current stage and what its report contains besides the result.

use std::time::Instant;

use installer_protocol::report::{ContainerdFacts, Installed, Restart};
use installer_protocol::{Outcome, Report, Stage};

use crate::detect::ContainerdService;
use crate::failure::Failure;
use crate::installation::Installation;
use crate::node_root::NodePath;
use crate::record::FailureRecord;

/// The current stage of a run, and its findings so far.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) stage: Stage,
    pub(crate) containerd: ContainerdFacts,
    pub(crate) restart: Restart,
    stage_began: Instant,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            stage: Stage::Check,
            containerd: ContainerdFacts::default(),
            restart: Restart::NotNeeded,
            stage_began: Instant::now(),
        }
    }

    /// Logs the result of the current stage and enters the next one.
    pub(crate) fn enter(&mut self, stage: Stage, result: &str) {
        self.log_result(result);
        self.stage = stage;
        self.stage_began = Instant::now();
    }

    /// Logs the result of the current stage.
    pub(crate) fn log_result(&self, result: &str) {
        tracing::info!(
            stage = ?self.stage,
            took_ms = self.stage_began.elapsed().as_millis(),
            result,
            "stage finished"
        );
    }

    /// Keeps containerd's versions for the report.
    pub(crate) fn set_containerd(
        &mut self,
        installation: &Installation<'_>,
        service: &ContainerdService,
    ) {
        self.containerd.version = service.version.to_string();
        self.containerd.config_version = config_version(installation).unwrap_or_default();
    }

    /// Returns the record of a failure in the current stage.
    pub(crate) fn failure_record(&self, failure: &Failure) -> FailureRecord {
        FailureRecord {
            stage: self.stage,
            reason: failure.reason,
            message: failure.message(),
        }
    }

    pub(crate) fn report(
        &self,
        outcome: Outcome,
        result: FailureRecord,
        installed: Option<Installed>,
    ) -> Report {
        let FailureRecord {
            stage,
            reason,
            message,
        } = result;
        Report {
            outcome,
            stage,
            reason,
            message,
            containerd: self.containerd.clone(),
            installed,
            restart: self.restart,
        }
    }
}

/// Reads the schema version from containerd's main file; none if the file states none.
fn config_version(installation: &Installation<'_>) -> Option<u32> {
    let main = NodePath::new(&installation.layout.config).ok()?;
    let text = String::from_utf8(installation.node.root.read(&main).ok()??).ok()?;
    let document: toml_edit::DocumentMut = text.parse().ok()?;
    u32::try_from(document.get("version")?.as_integer()?).ok()
}
