//! What can go wrong at the API server, in classes, and how long to wait after each.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use kube::core::Status;

/// Why an action was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApplyError {
    /// The API server did not do it.
    #[error("cannot {operation}")]
    Api {
        /// What was to be done, to which object.
        operation: String,
        /// The class of what went wrong.
        category: Category,
        /// What it said.
        source: Cause,
    },
    /// The object is somebody else's.
    #[error("{object} belongs to {owner}: {next}")]
    Foreign {
        /// The object.
        object: String,
        /// Whose it is, as far as it tells.
        owner: String,
        /// What somebody can do about it.
        next: &'static str,
    },
    /// Something that the operator wrote itself cannot be read.
    #[error("cannot read {what} of {object}: remove it, then the operator goes on without it")]
    Unreadable {
        /// Which part.
        what: &'static str,
        /// The object.
        object: String,
        /// What is wrong with it.
        source: Arc<serde_json::Error>,
    },
}

/// What the API server said.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Cause {
    /// It refused.
    #[error("the API server says: {} ({} {})", .0.message, .0.code, .0.reason)]
    Refusal(Box<Status>),
    /// It could not be asked, or its answer could not be read.
    #[error(transparent)]
    Transport(Arc<kube::Error>),
    /// It did not answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Silence(Duration),
}

/// Classes of errors, for metrics and for how long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// Somebody else was quicker: look again.
    Conflict,
    /// The API server has too much to do.
    Throttled,
    /// It is not there, or in trouble.
    Unavailable,
    /// The operator lacks a right.
    Forbidden,
    /// The object is not one that the API server takes.
    Invalid,
    /// The object is somebody else's.
    Foreign,
    /// The object is gone.
    Gone,
}

impl Category {
    /// Every one, for tables and metrics.
    pub const ALL: &'static [Self] = &[
        Self::Conflict,
        Self::Throttled,
        Self::Unavailable,
        Self::Forbidden,
        Self::Invalid,
        Self::Foreign,
        Self::Gone,
    ];

    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Forbidden => "forbidden",
            Self::Invalid => "invalid",
            Self::Foreign => "foreign",
            Self::Gone => "gone",
        }
    }

    /// The class of an error of the client's.
    pub fn of(error: &kube::Error) -> Self {
        let kube::Error::Api(status) = error else {
            return Self::Unavailable;
        };
        match status.code {
            404 | 410 => Self::Gone,
            409 => Self::Conflict,
            429 => Self::Throttled,
            401 | 403 => Self::Forbidden,
            // A uid that was named and is not the object's: it is a later one of that name.
            422 if status.message.contains("metadata.uid") => Self::Conflict,
            400..=499 => Self::Invalid,
            _ => Self::Unavailable,
        }
    }

    /// Whether it may pass by itself, soon.
    pub fn passes(self) -> bool {
        matches!(self, Self::Conflict | Self::Throttled | Self::Unavailable)
    }

    /// Whether it does not pass before a person acts.
    pub fn is_for_a_person(self) -> bool {
        matches!(self, Self::Forbidden | Self::Invalid | Self::Foreign)
    }

    /// The first pause, and the longest one.
    fn bounds(self) -> (Duration, Duration) {
        match self {
            // The next look is likely to be right.
            Self::Conflict | Self::Gone => (Duration::from_millis(100), Duration::from_secs(5)),
            Self::Throttled => (Duration::from_secs(1), Duration::from_mins(1)),
            Self::Unavailable => (Duration::from_millis(500), Duration::from_secs(30)),
            // A person has to act; what he does to objects wakes the operator up, what he does to
            // roles does not.
            Self::Forbidden | Self::Invalid | Self::Foreign => {
                (Duration::from_secs(5), Duration::from_mins(5))
            }
        }
    }

    /// How long to wait after the `attempt`th failure in a row, the first being 0: doubled each
    /// time up to a bound, and of that a random part between half and all, so that not everybody
    /// comes back at the same time. `luck` is between 0 and 1.
    pub fn delay(self, attempt: u32, luck: f64) -> Duration {
        let (first, longest) = self.bounds();
        let whole = first
            .saturating_mul(2_u32.saturating_pow(attempt.min(20)))
            .min(longest);
        whole.mul_f64(0.5 + luck.clamp(0.0, 1.0) / 2.0)
    }
}

impl ApplyError {
    /// The class of what went wrong.
    pub fn category(&self) -> Category {
        match self {
            Self::Api { category, .. } => *category,
            Self::Foreign { .. } => Category::Foreign,
            Self::Unreadable { .. } => Category::Invalid,
        }
    }

    /// How long to wait after the `attempt`th failure in a row, the first being 0.
    pub fn delay(&self, attempt: u32) -> Duration {
        self.category().delay(attempt, luck())
    }

    /// The error and what caused it, in one line for people.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        text
    }
}

impl From<kube::Error> for Cause {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refusal(status),
            error => Self::Transport(Arc::new(error)),
        }
    }
}

/// A number between 0 and 1 that two replicas do not share.
pub fn luck() -> f64 {
    // The standard library's hasher has random keys: enough to spread retries, and no dependency.
    let bits = u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or_default();
    f64::from(bits) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: u16) -> kube::Error {
        kube::Error::Api(Status::failure("no", "Reason").with_code(code).boxed())
    }

    #[test]
    fn an_answer_has_the_class_of_its_code() {
        for (code, expected) in [
            (404, Category::Gone),
            (410, Category::Gone),
            (409, Category::Conflict),
            (429, Category::Throttled),
            (401, Category::Forbidden),
            (403, Category::Forbidden),
            (400, Category::Invalid),
            (422, Category::Invalid),
            (500, Category::Unavailable),
            (503, Category::Unavailable),
            (504, Category::Unavailable),
        ] {
            assert_eq!(Category::of(&refusal(code)), expected, "{code}");
        }
        let message =
            "WasmRuntime \"a\" is invalid: metadata.uid: Invalid value: \"1\": field is immutable";
        assert_eq!(
            Category::of(&kube::Error::Api(
                Status::failure(message, "Invalid").with_code(422).boxed()
            )),
            Category::Conflict
        );
        assert_eq!(
            Category::of(&kube::Error::LinesCodecMaxLineLengthExceeded),
            Category::Unavailable
        );
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        for category in Category::ALL {
            let (first, longest) = category.bounds();
            assert_eq!(category.delay(0, 1.0), first, "{category:?}");
            assert_eq!(category.delay(1, 1.0), first * 2, "{category:?}");
            assert_eq!(category.delay(u32::MAX, 1.0), longest, "{category:?}");
        }
    }

    #[test]
    fn luck_takes_at_most_half_of_a_pause() {
        assert_eq!(Category::Throttled.delay(2, 0.0), Duration::from_secs(2));
        assert_eq!(Category::Throttled.delay(2, 0.5), Duration::from_secs(3));
        assert_eq!(Category::Throttled.delay(2, 1.0), Duration::from_secs(4));
        assert!((0.0..=1.0).contains(&luck()));
    }

    #[test]
    fn what_only_a_person_can_change_is_not_tried_often() {
        for category in Category::ALL
            .iter()
            .filter(|category| category.is_for_a_person())
        {
            assert!(!category.passes(), "{category:?}");
            assert!(
                category.delay(0, 0.0) >= Duration::from_secs(2),
                "{category:?}"
            );
        }
    }

    #[test]
    fn an_error_tells_operation_object_and_cause_once() {
        let error = ApplyError::Api {
            operation: "label Node a".to_owned(),
            category: Category::Forbidden,
            source: Cause::from(refusal(403)),
        };
        assert_eq!(
            error.chain(),
            "cannot label Node a: the API server says: no (403 Reason)"
        );
    }
}
