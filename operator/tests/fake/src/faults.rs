//! What goes wrong on demand. Which request meets which fault follows from the seed and the order
//! of requests.

use std::time::Duration;

use crate::refusal::Refusal;

/// What goes wrong for a connection, as shares of 1. None by default.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// Where chance begins.
    pub seed: u64,
    /// Shortest and longest time that an answer takes.
    pub latency: (Duration, Duration),
    /// Requests that take [`Self::slowness`].
    pub slow: f64,
    /// How long a slow answer takes.
    pub slowness: Duration,
    /// Changes of objects that are refused as if another client had been faster.
    pub conflict: f64,
    /// Requests that fail on the server before anything is done.
    pub broken: f64,
    /// Requests that are refused because there were too many.
    pub throttled: f64,
    /// Requests whose connection breaks before the server has them.
    pub lost: f64,
    /// Requests that the server fulfils, but whose answer is lost.
    pub answer_lost: f64,
    /// Events of a watch after which its connection ends.
    pub watch_ends: f64,
    /// Watches that are told that they are too old.
    pub watch_expires: f64,
    /// Longest time that an event is late.
    pub event_delay: Duration,
    /// How many versions a list may be old that allows any.
    pub stale: u64,
    /// Verbs and kinds, in the plural, that the client has no right to.
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
    /// No right to do this with that kind of objects, and nothing else.
    pub fn forbidding(verb: &'static str, plural: &'static str) -> Self {
        Self {
            forbidden: vec![(verb, plural)],
            ..Self::default()
        }
    }

    /// A bit of everything.
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

/// What happens to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Nothing special.
    Served,
    /// The server refuses it.
    Refused(Refusal),
    /// The server never has it.
    Lost,
    /// The client never has the answer.
    AnswerLost,
}

/// Chance that is the same for the same seed: SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Chance that begins at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Whether something happens that has this share.
    pub fn happens(&mut self, share: f64) -> bool {
        self.fraction() < share
    }

    /// A time between two others.
    pub fn between(&mut self, shortest: Duration, longest: Duration) -> Duration {
        shortest + longest.saturating_sub(shortest).mul_f64(self.fraction())
    }

    /// Between 0 and 1. 32 bits are enough, and fit a float.
    fn fraction(&mut self) -> f64 {
        let bits = u32::try_from(self.number() >> 32).expect("half of 64 bits");
        f64::from(bits) / f64::from(u32::MAX)
    }
}

impl Faults {
    /// How long a request takes, and what happens to it.
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
