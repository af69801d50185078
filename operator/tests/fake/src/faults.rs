//! Injected faults. The seed and the order of requests determine which request has which fault.

use std::time::Duration;

use crate::refusal::Refusal;

/// The faults of a connection, as shares of 1. None by default.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// The seed.
    pub seed: u64,
    /// Shortest and longest time that an answer takes.
    pub latency: (Duration, Duration),
    /// Requests that take [`Self::slowness`].
    pub slow: f64,
    /// How long a slow answer takes.
    pub slowness: Duration,
    /// Writes that are refused as conflicts.
    pub conflict: f64,
    /// Requests that fail on the server before they are executed.
    pub broken: f64,
    /// Requests that are refused by rate limits.
    pub throttled: f64,
    /// Requests whose connection breaks before they reach the server.
    pub lost: f64,
    /// Requests that are executed, but whose answer is lost.
    pub answer_lost: f64,
    /// Events of a watch after which its connection ends.
    pub watch_ends: f64,
    /// Watches that expire.
    pub watch_expires: f64,
    /// Maximum delay of an event.
    pub event_delay: Duration,
    /// How many versions old a list may be that allows any version.
    pub stale: u64,
    /// Verbs and kinds, in the plural, that are forbidden.
    pub forbidden: Vec<(&'static str, &'static str)>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            seed: 0,
            latency: (Duration::from_millis(2), Duration::from_millis(8)),
            slow: 0.0,
            slowness: Duration::from_secs(8),
            conflict: 0.0,
            broken: 0.0,
            throttled: 0.0,
            lost: 0.0,
            answer_lost: 0.0,
            watch_ends: 0.0,
            watch_expires: 0.0,
            event_delay: Duration::ZERO,
            stale: 0,
            forbidden: Vec::new(),
        }
    }
}

impl Faults {
    /// Forbids one verb on one kind.
    pub fn forbidding(verb: &'static str, plural: &'static str) -> Self {
        Self {
            forbidden: vec![(verb, plural)],
            ..Self::default()
        }
    }

    /// Returns some of every fault.
    pub fn chaos(seed: u64) -> Self {
        Self {
            seed,
            slow: 0.02,
            conflict: 0.05,
            broken: 0.03,
            throttled: 0.02,
            lost: 0.02,
            answer_lost: 0.02,
            watch_ends: 0.02,
            watch_expires: 0.05,
            event_delay: Duration::from_secs(3),
            stale: 50,
            ..Self::default()
        }
    }
}

/// The fault of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// None.
    Served,
    /// The server refuses it.
    Refused(Refusal),
    /// It does not reach the server.
    Lost,
    /// The answer is lost.
    AnswerLost,
}

/// A random generator with a seed: SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Creates a generator with this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a random number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns true with this probability.
    pub fn happens(&mut self, share: f64) -> bool {
        self.fraction() < share
    }

    /// Returns a random duration between two others.
    pub fn between(&mut self, shortest: Duration, longest: Duration) -> Duration {
        shortest + longest.saturating_sub(shortest).mul_f64(self.fraction())
    }

    /// Returns a random number between 0 and 1, of 32 bits.
    fn fraction(&mut self) -> f64 {
        let bits = u32::try_from(self.number() >> 32).expect("half of 64 bits");
        f64::from(bits) / f64::from(u32::MAX)
    }
}

impl Faults {
    /// Returns the latency of a request, and its fault.
    pub(crate) fn judge(&self, chance: &mut Chance, may_conflict: bool) -> (Duration, Fate) {
        let mut time = chance.between(self.latency.0, self.latency.1);
        if chance.happens(self.slow) {
            time += self.slowness;
        }
        let fate = if chance.happens(self.lost) {
            Fate::Lost
        } else if chance.happens(self.broken) {
            Fate::Refused(if chance.happens(0.5) {
                Refusal::internal()
            } else {
                Refusal::unavailable()
            })
        } else if chance.happens(self.throttled) {
            Fate::Refused(Refusal::throttled(1))
        } else if may_conflict && chance.happens(self.conflict) {
            let message = "Operation cannot be fulfilled: the object has been modified; please \
                           apply your changes to the latest version";
            Fate::Refused(Refusal {
                code: 409,
                reason: "Conflict",
                message: message.to_owned(),
                retry_after: None,
            })
        } else if chance.happens(self.answer_lost) {
            Fate::AnswerLost
        } else {
            Fate::Served
        };
        (time, fate)
    }
}
