//! Programs kept, so that each profile is made into one once.

use std::sync::{Mutex, PoisonError};

use oci_spec::runtime::LinuxSeccomp;

use super::{FilterError, SeccompFilter, engine, profile};
use crate::plan::WorkloadKind;

/// How many profiles are kept. A node has a few: the runtime's default one, and those that its
/// admin wrote.
const KEPT: usize = 16;

/// Makes filters, and keeps the ones that were used last.
#[derive(Debug)]
pub struct FilterCache {
    engine: SeccompFilter,
    /// The one used last comes last.
    profiles: Mutex<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    profile: LinuxSeccomp,
    runs: WorkloadKind,
    program: SeccompFilter,
}

impl FilterCache {
    /// Makes the filter of every guest's process.
    ///
    /// # Errors
    /// When libseccomp cannot make it on this machine.
    pub fn new() -> Result<Self, FilterError> {
        Ok(Self {
            engine: engine::program()?,
            profiles: Mutex::default(),
        })
    }

    /// The filter of every guest's process.
    pub fn engine(&self) -> SeccompFilter {
        self.engine.clone()
    }

    /// The filter that `profile` describes, for a process that runs a `runs`.
    ///
    /// # Errors
    /// When the profile asks for what cannot be given.
    pub fn profile(
        &self,
        profile: &LinuxSeccomp,
        runs: WorkloadKind,
    ) -> Result<SeccompFilter, FilterError> {
        // The whole profile is its key: to compare it costs less than to take its digest.
        if let Some(program) = self.used(|entry| entry.runs == runs && entry.profile == *profile) {
            return Ok(program);
        }
        // Made without the lock, so that no other container waits for it. Two that make the same
        // one lose a little time.
        let program = profile::program(profile, runs)?;
        let mut kept = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push(Entry {
            profile: profile.clone(),
            runs,
            program: program.clone(),
        });
        Ok(program)
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.profiles.lock().unwrap().len()
    }

    #[cfg(test)]
    pub(super) fn keeps(&self, profile: &LinuxSeccomp) -> bool {
        self.profiles
            .lock()
            .unwrap()
            .iter()
            .any(|entry| entry.profile == *profile)
    }

    fn used(&self, is_it: impl Fn(&Entry) -> bool) -> Option<SeccompFilter> {
        let mut kept = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().rposition(is_it)?;
        let entry = kept.remove(at);
        let program = entry.program.clone();
        kept.push(entry);
        Some(program)
    }
}
