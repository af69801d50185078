//! Adds the handler to containerd's configuration, after a trial run of the edit with the node's
//! own containerd. A change that a killed installer began is finished if the request is still the
//! same.

use installer_protocol::Verb;

use super::artifact::Placed;
use crate::change::{self, NodeConfigDump, NodeConfigFiles, Transition};
use crate::containerd::{self, ConfigError, Handler};
use crate::detect::ContainerdService;
use crate::failure::Failure;
use crate::installation::Installation;
use crate::record::{ActiveRuntime, DesiredHandler, Record};

/// The result of the stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// The runtime that containerd's configuration leads to.
    pub active: ActiveRuntime,
    /// The files that were written.
    pub written: Vec<String>,
}

/// Edits containerd's configuration so that it leads to `placed`.
///
/// # Errors
/// If the configuration cannot be edited or containerd refuses the edit; nothing was changed then.
/// If a file cannot be written; the record has a pending change then.
pub fn run(
    installation: &Installation<'_>,
    record: &mut Record,
    service: &ContainerdService,
    desired: &DesiredHandler,
    placed: &Placed,
) -> Result<Configured, Failure> {
    change::remove_candidate(installation)?;
    let handler = desired.handler(installation.request.settings.clone());
    if let Some(pending) = &record.pending {
        let tried = pending
            .tried
            .as_ref()
            .filter(|tried| {
                pending.verb == Verb::Install
                    && tried.desired == *desired
                    && tried.installed == placed.installed
            })
            .filter(|tried| tried.config.settings == handler.settings);
        if let Some(active) = tried.cloned() {
            let written = change::apply(installation, record)?;
            return Ok(Configured { active, written });
        }
        tracing::info!("an unfinished change of another request is rolled back first");
        change::undo(installation, record)?;
        record.pending = None;
        change::save(installation, record)?;
    }
    let config_failure = |error: ConfigError| Failure {
        reason: error.reason(),
        error: error.into(),
    };
    let (facts, proposal) =
        propose(installation, record, service, &handler).map_err(config_failure)?;
    let active = ActiveRuntime {
        desired: desired.clone(),
        installed: placed.installed.clone(),
        config: proposal.written.clone(),
        config_path: proposal.config_path.clone(),
    };
    if proposal.changes.is_empty() {
        return Ok(Configured {
            active,
            written: Vec::new(),
        });
    }
    let dump = NodeConfigDump {
        installation,
        program: &service.program,
    };
    containerd::prove(&dump, &facts, &proposal, &handler).map_err(config_failure)?;
    installation.check_not_cancelled()?;
    let transition = Transition {
        verb: Verb::Install,
        handler: &desired.handler,
        tried: Some(active.clone()),
        files: &proposal.changes,
        folders: &proposal.written.made_folders,
    };
    change::begin(installation, record, service, transition)?;
    let written = change::apply(installation, record)?;
    Ok(Configured { active, written })
}

fn propose(
    installation: &Installation<'_>,
    record: &Record,
    service: &ContainerdService,
    handler: &Handler,
) -> Result<(containerd::ConfigFacts, containerd::Proposal), ConfigError> {
    let written = record.active.as_ref().map(|active| &active.config);
    let facts = containerd::ConfigFacts::gather(
        &NodeConfigFiles(installation.node.root),
        &installation.layout,
        installation.request.mode,
        service.version,
        written,
    )?;
    let proposal = containerd::propose(&facts, handler, written)?;
    Ok((facts, proposal))
}
