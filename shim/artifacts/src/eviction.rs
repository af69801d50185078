//! Eviction: a decision without I/O on the entries that go when the store is full.
//!
//! Whether an entry is in use is known only when its lock is tried, so the decision is a
//! conversation: [`Eviction::next`] names a candidate, and the caller reports what became of it.

use std::time::SystemTime;

use crate::key::Key;

/// The most entries of a store.
pub(crate) const MAX_ENTRIES: u64 = 4096;

/// What a store may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    /// Bytes that are free on the file system.
    pub(crate) free: u64,
}

/// What a new entry takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Need {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

/// An entry as eviction sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) key: Key,
    pub(crate) bytes: u64,
    pub(crate) last_use: SystemTime,
}

/// What became of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Removed,
    /// It is in use.
    Kept,
}

/// An eviction under way.
#[derive(Debug)]
pub(crate) struct Eviction {
    bounds: Bounds,
    need: Need,
    bytes: u64,
    entries: u64,
    /// Bytes that are free on the file system now.
    free: u64,
    /// The next one is the last.
    order: Vec<Candidate>,
}

impl Eviction {
    /// Begins to make space for a new entry, or to keep the bounds if nothing is needed.
    pub(crate) fn new(
        mut candidates: Vec<Candidate>,
        bounds: Bounds,
        need: Need,
        now: SystemTime,
    ) -> Self {
        let bytes = candidates.iter().map(|candidate| candidate.bytes).sum();
        let entries = candidates.len() as u64;
        // Least recently used last. A use in the future was recorded by a clock that was wrong: it
        // counts as the oldest, or the entry would stay for as long as the clock was ahead. Keys
        // make the order the same each time.
        candidates.sort_by(|a, b| {
            let rank = |candidate: &Candidate| {
                Some(candidate.last_use).filter(|last_use| *last_use <= now)
            };
            (rank(b), b.key).cmp(&(rank(a), a.key))
        });
        let mut eviction = Self {
            bounds,
            need,
            bytes,
            entries,
            free: bounds.free,
            order: candidates,
        };
        // Nothing is removed in vain.
        if !eviction.is_possible() {
            eviction.order.clear();
        }
        eviction
    }

    /// Returns the next entry to remove; none if the bounds hold or none is left.
    pub(crate) fn next(&mut self) -> Option<Candidate> {
        if self.is_done() {
            None
        } else {
            self.order.pop()
        }
    }

    /// Counts what became of the candidate.
    pub(crate) fn count(&mut self, candidate: &Candidate, fate: Fate) {
        if fate == Fate::Removed {
            self.bytes -= candidate.bytes;
            self.entries -= 1;
            self.free = self.free.saturating_add(candidate.bytes);
        }
    }

    /// Whether the new entry has space within the bounds.
    pub(crate) fn is_done(&self) -> bool {
        self.bytes.saturating_add(self.need.bytes) <= self.bounds.bytes
            && self.entries.saturating_add(self.need.entries) <= self.bounds.entries
            && self.need.bytes <= self.free
    }

    /// Whether it would have space if all were removed.
    fn is_possible(&self) -> bool {
        self.need.bytes <= self.bounds.bytes
            && self.need.entries <= self.bounds.entries
            && self.need.bytes <= self.free.saturating_add(self.bytes)
    }
}

#[cfg(test)]
mod tests;
