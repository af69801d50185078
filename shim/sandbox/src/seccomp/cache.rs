//! A cache of compiled profiles.

use std::sync::Mutex;

use oci_spec::runtime::LinuxSeccomp;

use super::{FilterError, SeccompFilter, engine, profile};
use crate::plan::WorkloadKind;

/// Maximum number of cached profiles. A node has a few: the runtime's default one, and the
/// administrator's.
const MAX_PROFILES: usize = 16;

/// Compiles filters, and caches the most recently used ones.
#[derive(Debug)]
pub struct FilterCache {
    engine: SeccompFilter,
    /// The most recently used at the end.
    profiles: Mutex<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    profile: LinuxSeccomp,
    runs: WorkloadKind,
    filter: SeccompFilter,
}

impl FilterCache {
    /// Compiles the filter of every guest's process.
    ///
    /// # Errors
    /// If libseccomp cannot compile it on this machine.
    pub fn new() -> Result<Self, FilterError> {
        Ok(Self {
            engine: engine::compile()?,
            profiles: Mutex::default(),
        })
    }

    /// Returns the filter of every guest's process.
    pub fn engine(&self) -> SeccompFilter {
        self.engine.clone()
    }

    /// Returns the filter of `profile` for a process of this kind.
    ///
    /// # Errors
    /// If the profile requests what is not supported.
    pub fn profile(
        &self,
        profile: &LinuxSeccomp,
        runs: WorkloadKind,
    ) -> Result<SeccompFilter, FilterError> {
        // The whole profile is the key: comparing it costs less than hashing it.
        if let Some(filter) = self.cached(|entry| entry.runs == runs && entry.profile == *profile) {
            return Ok(filter);
        }
        // Compiled without the lock, so that no other container waits for it. Two that compile the
        // same profile lose a little time.
        let filter = profile::compile(profile, runs)?;
        let mut entries = failures::lock_ignoring_poison(&self.profiles);
        if entries.len() >= MAX_PROFILES {
            entries.remove(0);
        }
        entries.push(Entry {
            profile: profile.clone(),
            runs,
            filter: filter.clone(),
        });
        Ok(filter)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.profiles.lock().unwrap().len()
    }

    #[cfg(test)]
    pub(super) fn contains(&self, profile: &LinuxSeccomp) -> bool {
        self.profiles
            .lock()
            .unwrap()
            .iter()
            .any(|entry| entry.profile == *profile)
    }

    fn cached(&self, matches: impl Fn(&Entry) -> bool) -> Option<SeccompFilter> {
        let mut entries = failures::lock_ignoring_poison(&self.profiles);
        let at = entries.iter().rposition(matches)?;
        let entry = entries.remove(at);
        let filter = entry.filter.clone();
        entries.push(entry);
        Some(filter)
    }
}
