//! Rules of eviction.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::key::tests::inputs;

const NOW: u64 = 1_000_000;
const NOTHING: Need = Need {
    bytes: 0,
    entries: 0,
};

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn key(name: &str) -> Key {
    inputs(name.as_bytes()).key()
}

fn candidate(name: &str, bytes: u64, last_use: u64) -> Candidate {
    Candidate {
        key: key(name),
        bytes,
        last_use: at(last_use),
    }
}

fn bounds(bytes: u64, entries: u64, free: u64) -> Bounds {
    Bounds {
        bytes,
        entries,
        free,
    }
}

/// Runs an eviction to its end. Returns what was removed, in order, and the eviction.
fn run(
    candidates: &[Candidate],
    in_use: &BTreeSet<Key>,
    bounds: Bounds,
    need: Need,
) -> (Vec<Candidate>, Eviction) {
    let mut eviction = Eviction::new(candidates.to_vec(), bounds, need, at(NOW));
    let mut removed = Vec::new();
    while let Some(candidate) = eviction.next() {
        if in_use.contains(&candidate.key) {
            eviction.count(&candidate, Fate::Kept);
        } else {
            eviction.count(&candidate, Fate::Removed);
            removed.push(candidate);
        }
    }
    (removed, eviction)
}

fn removed(candidates: &[Candidate], bounds: Bounds, need: Need) -> Vec<Key> {
    let (removed, _) = run(candidates, &BTreeSet::new(), bounds, need);
    removed.iter().map(|candidate| candidate.key).collect()
}

#[test]
fn eviction_takes_the_least_recently_used_and_no_more_than_needed() {
    let all = [
        candidate("new", 10, 30),
        candidate("old", 10, 10),
        candidate("mid", 10, 20),
    ];
    let need = |bytes| Need { bytes, entries: 1 };
    for (limits, needed, expected) in [
        (bounds(100, 100, 100), need(50), &[][..]),
        (bounds(40, 100, 100), need(10), &[]),
        (bounds(40, 100, 100), need(11), &["old"]),
        (bounds(40, 100, 100), need(21), &["old", "mid"]),
        (bounds(40, 100, 100), need(40), &["old", "mid", "new"]),
        (bounds(100, 3, 100), need(1), &["old"]),
        (bounds(100, 100, 5), need(15), &["old"]),
        (bounds(15, 100, 100), NOTHING, &["old", "mid"]),
        (bounds(100, 1, 100), NOTHING, &["old", "mid"]),
    ] {
        let expected: Vec<Key> = expected.iter().map(|name| key(name)).collect();
        assert_eq!(
            removed(&all, limits, needed),
            expected,
            "{limits:?} {needed:?}"
        );
    }
}

#[test]
fn eviction_removes_nothing_for_what_can_never_have_space() {
    let all = [candidate("a", 10, 10), candidate("b", 10, 20)];
    let need = |bytes| Need { bytes, entries: 1 };
    for (limits, needed) in [
        (bounds(40, 100, 100), need(41)),
        (bounds(100, 100, 5), need(26)),
        (bounds(100, 0, 100), need(1)),
    ] {
        assert_eq!(removed(&all, limits, needed), [], "{limits:?} {needed:?}");
    }
}

#[test]
fn use_that_a_wrong_clock_put_into_the_future_counts_as_the_oldest() {
    let all = [
        candidate("future", 10, NOW + 1),
        candidate("old", 10, 0),
        candidate("now", 10, NOW),
    ];
    let expected = ["future", "old"].map(key);
    assert_eq!(removed(&all, bounds(10, 100, 100), NOTHING), expected);
}

prop_compose! {
    fn any_candidates()(
        facts in prop::collection::vec((0_u64..50, 0_u64..2 * NOW), 0..20),
    ) -> Vec<Candidate> {
        facts
            .iter()
            .enumerate()
            .map(|(number, (bytes, last_use))| candidate(&number.to_string(), *bytes, *last_use))
            .collect()
    }
}

proptest! {
    #[test]
    fn eviction_keeps_bounds_order_and_what_is_in_use(
        candidates in any_candidates(),
        used in prop::collection::vec(any::<bool>(), 20),
        max in (0_u64..400, 0_u64..25, 0_u64..400),
        need in (0_u64..100, 0_u64..2),
    ) {
        let in_use: BTreeSet<Key> = candidates
            .iter()
            .zip(&used)
            .filter(|(_, used)| **used)
            .map(|(candidate, _)| candidate.key)
            .collect();
        let limits = bounds(max.0, max.1, max.2);
        let need = Need { bytes: need.0, entries: need.1 };
        let (removed, eviction) = run(&candidates, &in_use, limits, need);
        let gone: BTreeSet<Key> = removed.iter().map(|candidate| candidate.key).collect();
        prop_assert_eq!(gone.len(), removed.len());
        prop_assert!(gone.is_disjoint(&in_use));

        let stays: Vec<&Candidate> =
            candidates.iter().filter(|candidate| !gone.contains(&candidate.key)).collect();
        let freed: u64 = removed.iter().map(|candidate| candidate.bytes).sum();
        let holds = |more: u64, count: u64| {
            let bytes: u64 = stays.iter().map(|candidate| candidate.bytes).sum();
            bytes + more + need.bytes <= limits.bytes
                && stays.len() as u64 + count + need.entries <= limits.entries
                && need.bytes + more <= limits.free + freed
        };
        prop_assert_eq!(eviction.is_done(), holds(0, 0));
        // Without the last removal the bounds would not hold.
        if let Some(last) = removed.last() {
            prop_assert!(!eviction.is_done() || !holds(last.bytes, 1));
        }
        // What stays and is not in use was used later than all that was removed.
        let rank = |candidate: &Candidate| {
            if candidate.last_use > at(NOW) { None } else { Some(candidate.last_use) }
        };
        let youngest_gone = removed.iter().map(rank).max();
        let idle = stays.iter().filter(|candidate| !in_use.contains(&candidate.key));
        if let Some(youngest_gone) = youngest_gone {
            prop_assert!(idle.map(|candidate| rank(candidate)).all(|rank| rank >= youngest_gone));
        }
    }
}
