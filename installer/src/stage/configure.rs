//! Telling containerd of the runtime: what has to be edited is proven with the host's own
//! containerd first. What a killed installer began is finished, if the same is wished still.

use installer_protocol::Verb;

use super::artifact::Placed;
use super::check::Facts;
use super::{Failure, Job};
use crate::change::{self, HostDump, HostFiles, Plan};
use crate::containerd::{self, ConfigError, Handler};
use crate::record::{Active, Record, Wish};

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// What containerd's configuration leads to.
    pub active: Active,
    /// The files that were written.
    pub written: Vec<String>,
}

/// Brings containerd's configuration to lead to `placed`.
///
/// # Errors
/// When the configuration is none that can be edited, or containerd refuses it; nothing was changed
/// then. Or when it cannot be written: then the record has a pending change.
pub fn run(
    job: &Job<'_>,
    record: &mut Record,
    facts: &Facts,
    wish: &Wish,
    placed: &Placed,
) -> Result<Configured, Failure> {
    change::remove_candidate(job)?;
    let handler = wish.handler(job.request.settings);
    if let Some(pending) = &record.pending {
        let tried = pending
            .tried
            .as_ref()
            .filter(|tried| {
                pending.verb == Verb::Install
                    && tried.wish == *wish
                    && tried.installed == placed.installed
            })
            .filter(|tried| tried.config.settings == handler.settings);
        if let Some(active) = tried.cloned() {
            let written = change::apply(job, record)?;
            return Ok(Configured { active, written });
        }
        tracing::info!(
            "another request was begun on this node and not finished: it is taken back first"
        );
        change::undo(job, record)?;
        record.pending = None;
        change::save(job, record)?;
    }
    let (found, proposal) = propose(job, record, facts, &handler).map_err(|error| Failure {
        reason: error.reason(),
        error: error.into(),
    })?;
    let active = Active {
        wish: wish.clone(),
        installed: placed.installed.clone(),
        config: proposal.record.clone(),
        config_path: proposal.config_path.clone(),
    };
    if proposal.changes.is_empty() {
        return Ok(Configured {
            active,
            written: Vec::new(),
        });
    }
    let dump = HostDump {
        job,
        program: &facts.program,
    };
    containerd::prove(&dump, &found, &proposal, &handler).map_err(|error| Failure {
        reason: error.reason(),
        error: error.into(),
    })?;
    job.go_on()?;
    let plan = Plan {
        verb: Verb::Install,
        handler: &wish.handler,
        tried: Some(active.clone()),
        files: &proposal.changes,
        folders: &proposal.record.made_folders,
    };
    change::arm(job, record, facts, plan)?;
    let written = change::apply(job, record)?;
    Ok(Configured { active, written })
}

fn propose(
    job: &Job<'_>,
    record: &Record,
    facts: &Facts,
    handler: &Handler,
) -> Result<(containerd::Facts, containerd::Proposal), ConfigError> {
    let written = record.active.as_ref().map(|active| &active.config);
    let found = containerd::Facts::gather(
        &HostFiles(job.node.root),
        &job.layout,
        job.request.mode,
        facts.version,
        written,
    )?;
    let proposal = containerd::propose(&found, handler, written)?;
    Ok((found, proposal))
}
