//! Logging, to stderr, as JSON or text.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::cli::{Log, LogFormat, LogLevel};

/// Sets up logging.
///
/// # Errors
/// If logging is set up already.
pub fn start(log: Log) -> Result<(), TryInitError> {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter(log.level)))
        .with_writer(std::io::stderr);
    match log.format {
        LogFormat::Json => subscriber.json().flatten_event(true).finish().try_init(),
        LogFormat::Text => subscriber.with_ansi(false).finish().try_init(),
    }
}

/// Returns the filter of a level. Messages of other crates are written from the level warn, or with
/// the level trace.
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
