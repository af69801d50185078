//! A subscriber that sends the errors that libcontainer logs to the host.
//!
//! libcontainer sends only the first line of an error from the processes that it forks, without the
//! causes. It logs each error with its cause in the process in which it happens.

use std::fmt::{Debug, Write as _};
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::reporter::Reporter;
use crate::reply::Reply;

/// Sends errors, and nothing else.
pub(super) struct Recorder(pub(super) Arc<Reporter>);

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == Level::ERROR
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.send(&Reply::logged(line.message + &line.fields));
    }

    // No span is enabled.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event as one line: its message, then its fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, ", {name}: {value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::reply::control_socket;

    #[test]
    fn recorder_sends_errors_with_their_fields_and_nothing_else() {
        let (ours, theirs) = control_socket().unwrap();
        tracing::subscriber::with_default(Recorder(Arc::new(Reporter::new(theirs))), || {
            tracing::warn!("not this");
            tracing::error!(path = ?"/proc", "failed to mount");
        });
        let reply = Reply::receive(ours.as_fd()).unwrap().unwrap();
        assert!(
            matches!(reply, Reply::Logged(text) if text == r#"failed to mount, path: "/proc""#)
        );
        assert!(Reply::receive(ours.as_fd()).unwrap().is_none());
    }
}
