//! The clock. Simulations have simulated time.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

/// A source of the present time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// Creates a clock with the system's time.
    pub fn wall() -> Self {
        Self::from_fn(Timestamp::now)
    }

    /// Creates a clock that returns what `now` does.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Returns the present time.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}
