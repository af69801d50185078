//! Errors of API calls: their categories, and the backoff after each.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use kube::core::Status;

/// The error of an action.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApplyError {
    /// An API call failed.
    #[error("cannot {operation}")]
    Api {
        /// The operation and the object.
        operation: String,
        /// The category.
        category: Category,
        /// The cause.
        source: Cause,
    },
    /// The object has another owner.
    #[error("{object} belongs to {owner}: {next}")]
    Foreign {
        /// The object.
        object: String,
        /// Its owner, as far as it is known.
        owner: String,
        /// The next step for the user.
        next: &'static str,
    },
    /// A value that the operator wrote cannot be parsed.
    #[error("cannot parse {what} of {object}: remove it, and the operator continues without it")]
    Unreadable {
        /// The field.
        what: &'static str,
        /// The object.
        object: String,
        /// The parse error.
        source: Arc<serde_json::Error>,
    },
}

/// The cause of a failed API call.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Cause {
    /// The API server refused it.
    #[error("the API server answered: {} ({} {})", .0.message, .0.code, .0.reason)]
    Refusal(Box<Status>),
    /// The API server was not reached, or its answer could not be parsed.
    #[error(transparent)]
    Transport(Arc<kube::Error>),
    /// The API server did not answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

/// Categories of errors, for metrics and backoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// Another client changed the object: read it again.
    Conflict,
    /// The API server limits our rate.
    Throttled,
    /// The API server is not reachable, or failed.
    Unavailable,
    /// The operator lacks a right.
    Forbidden,
    /// The object is not valid.
    Invalid,
    /// The object has another owner.
    Foreign,
    /// The object is gone.
    Gone,
}

impl Category {
    /// Every category, for tables and metrics.
    pub const ALL: &'static [Self] = &[
        Self::Conflict,
        Self::Throttled,
        Self::Unavailable,
        Self::Forbidden,
        Self::Invalid,
        Self::Foreign,
        Self::Gone,
    ];

    /// Returns the label value in metrics.
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

    /// Returns the category of an error of the client.
    pub fn of(error: &kube::Error) -> Self {
        let kube::Error::Api(status) = error else {
            return Self::Unavailable;
        };
        match status.code {
            404 | 410 => Self::Gone,
            409 => Self::Conflict,
            429 => Self::Throttled,
            401 | 403 => Self::Forbidden,
            // The uid in the request is not the object's: the object is a later one of that name.
            422 if status.message.contains("metadata.uid") => Self::Conflict,
            400..=499 => Self::Invalid,
            _ => Self::Unavailable,
        }
    }

    /// Whether it may pass without intervention, soon.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Conflict | Self::Throttled | Self::Unavailable)
    }

    /// Whether a user has to act before it passes.
    pub fn needs_intervention(self) -> bool {
        matches!(self, Self::Forbidden | Self::Invalid | Self::Foreign)
    }

    /// Returns the first backoff and the longest one.
    fn backoff_bounds(self) -> (Duration, Duration) {
        match self {
            // The next reconcile is likely to succeed.
            Self::Conflict | Self::Gone => (Duration::from_millis(100), Duration::from_secs(5)),
            Self::Throttled => (Duration::from_secs(1), Duration::from_mins(1)),
            Self::Unavailable => (Duration::from_millis(500), Duration::from_secs(30)),
            // A user has to act; a change of objects triggers a reconcile, a change of roles does
            // not.
            Self::Forbidden | Self::Invalid | Self::Foreign => {
                (Duration::from_secs(5), Duration::from_mins(5))
            }
        }
    }

    /// Returns the backoff after the `attempt`th failure in a row, the first being 0: doubled each
    /// time up to a bound, with jitter between half of it and all of it. `jitter` is between 0 and
    /// 1.
    pub fn backoff(self, attempt: u32, jitter: f64) -> Duration {
        let (first, longest) = self.backoff_bounds();
        let whole = first
            .saturating_mul(2_u32.saturating_pow(attempt.min(20)))
            .min(longest);
        whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

impl ApplyError {
    /// Returns the category.
    pub fn category(&self) -> Category {
        match self {
            Self::Api { category, .. } => *category,
            Self::Foreign { .. } => Category::Foreign,
            Self::Unreadable { .. } => Category::Invalid,
        }
    }

    /// Returns the backoff after the `attempt`th failure in a row, the first being 0.
    pub fn backoff(&self, attempt: u32) -> Duration {
        self.category().backoff(attempt, jitter())
    }

    /// Returns the error and its causes in one line.
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

/// Returns a random number between 0 and 1.
pub fn jitter() -> f64 {
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
    fn answer_has_the_category_of_its_code() {
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
    fn backoff_doubles_up_to_a_bound() {
        for category in Category::ALL {
            let (first, longest) = category.backoff_bounds();
            assert_eq!(category.backoff(0, 1.0), first, "{category:?}");
            assert_eq!(category.backoff(1, 1.0), first * 2, "{category:?}");
            assert_eq!(category.backoff(u32::MAX, 1.0), longest, "{category:?}");
        }
    }

    #[test]
    fn jitter_takes_at_most_half_of_the_backoff() {
        assert_eq!(Category::Throttled.backoff(2, 0.0), Duration::from_secs(2));
        assert_eq!(Category::Throttled.backoff(2, 0.5), Duration::from_secs(3));
        assert_eq!(Category::Throttled.backoff(2, 1.0), Duration::from_secs(4));
        assert!((0.0..=1.0).contains(&jitter()));
    }

    #[test]
    fn errors_that_need_intervention_are_retried_rarely() {
        for category in Category::ALL
            .iter()
            .filter(|category| category.needs_intervention())
        {
            assert!(!category.is_transient(), "{category:?}");
            assert!(
                category.backoff(0, 0.0) >= Duration::from_secs(2),
                "{category:?}"
            );
        }
    }

    #[test]
    fn error_chain_has_operation_object_and_cause_once() {
        let error = ApplyError::Api {
            operation: "label Node a".to_owned(),
            category: Category::Forbidden,
            source: Cause::from(refusal(403)),
        };
        assert_eq!(
            error.chain(),
            "cannot label Node a: the API server answered: no (403 Reason)"
        );
    }
}
