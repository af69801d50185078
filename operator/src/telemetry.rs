//! Messages: on the standard error, as JSON or for people.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::cli::{Log, LogFormat, LogLevel};

/// Begins to write messages.
///
/// # Errors
/// When somebody began before.
pub fn start(log: Log) -> Result<(), TryInitError> {
    let messages = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter(log.level)))
        .with_writer(std::io::stderr);
    match log.format {
        LogFormat::Json => messages.json().flatten_event(true).finish().try_init(),
        LogFormat::Text => messages.with_ansi(false).finish().try_init(),
    }
}

/// What is written: of what others made only what matters, unless somebody wants to see all.
fn filter(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "warn,wasmedge_operator=info",
        LogLevel::Debug => "warn,wasmedge_operator=debug",
        LogLevel::Trace => "debug,wasmedge_operator=trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_a_filter() {
        for level in [
            LogLevel::Error,
            LogLevel::Warn,
            LogLevel::Info,
            LogLevel::Debug,
            LogLevel::Trace,
        ] {
            EnvFilter::try_new(filter(level)).unwrap();
        }
    }
}
