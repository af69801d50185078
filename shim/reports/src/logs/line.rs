//! A log line in the format of containerd's log: `time="…" level=info msg="…" key=value`.

use std::fmt::Write as _;

use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

/// The maximum length of a line in bytes: what a FIFO takes at once or not at all (`PIPE_BUF`).
const MAX_LINE: usize = 4096;
/// The maximum length of the message, so that the fields, which come after it, are not cut off with
/// it.
const MAX_MESSAGE: usize = 3072;
/// The mark of a cut.
const CUT: &str = "…";

/// Fields in order. A name occurs once, with its last value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<(&'static str, String)>);

impl Fields {
    pub(super) fn set(&mut self, name: &'static str, value: String) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    pub(super) fn extend(&mut self, others: &Self) {
        for (name, value) in &others.0 {
            self.set(name, value.clone());
        }
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let position = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(position).1)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    time: String,
    level: Level,
    message: String,
    fields: Fields,
}

impl Line {
    /// Makes a line with the present time. Its message is the field `message`, in which `tracing`
    /// has an event's text.
    pub(super) fn now(level: Level, fields: Fields) -> Self {
        let mut time = String::new();
        // Writing to a string does not fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        Self::at(time, level, fields)
    }

    pub(super) fn at(time: String, level: Level, mut fields: Fields) -> Self {
        let message = fields.take("message").unwrap_or_default();
        Self {
            time,
            level,
            message,
            fields,
        }
    }

    pub(super) fn level(&self) -> Level {
        self.level
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.fields
            .0
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.fields()
            .find_map(|(known, value)| (known == name).then_some(value))
    }

    /// Adds a field, unless the line has it already or the value is empty.
    pub(super) fn add_missing(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value
            && self.get(name).is_none()
        {
            self.fields.set(name, value.to_owned());
        }
    }

    /// Encodes the line with its end in logrus's format for containerd, no longer than a FIFO takes
    /// at once.
    pub(super) fn logfmt(&self) -> Vec<u8> {
        let level = match self.level {
            Level::TRACE => "trace",
            Level::DEBUG => "debug",
            Level::INFO => "info",
            Level::WARN => "warning",
            Level::ERROR => "error",
        };
        let mut text = format!("time=\"{}\" level={level} msg=\"", self.time);
        text.push_str(&cut(escaped(&self.message), MAX_MESSAGE));
        text.push('"');
        let mut fields: Vec<_> = self.fields().collect();
        fields.sort_unstable();
        for (name, value) in fields {
            // Writing to a string does not fail.
            let _ = if is_plain(value) {
                write!(text, " {name}={value}")
            } else {
                write!(text, " {name}=\"{}\"", escaped(value))
            };
        }
        let mut line = cut(text, MAX_LINE - 1).into_bytes();
        line.push(b'\n');
        line
    }
}

/// Returns whether a value needs no quotes (logrus's rule).
fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._/@^+".contains(c))
}

/// Escapes `text` for Go's quotes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Writing to a string does not fail.
        let _ = match c {
            '"' => write!(out, "\\\""),
            '\\' => write!(out, "\\\\"),
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            c if c.is_control() => write!(out, "\\u{:04x}", u32::from(c)),
            c => out.write_char(c),
        };
    }
    out
}

/// Cuts `text` to at most `limit` bytes.
fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit - CUT.len()));
        text.push_str(CUT);
    }
    text
}
