//! Reports: tables for people, JSON for programs, and the exit code.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Table,
    Json,
}

/// The result of a command. Programs read its fields.
pub(crate) trait Report: Serialize {
    /// Returns it for people.
    fn text(&self) -> String;

    /// Returns whether all that was asked for was done, and all is well.
    fn state(&self) -> State;
}

/// Whether a user has to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Fine,
    /// The exit code is that of a failure.
    NeedsAttention,
}

/// What the program prints, and its exit code.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) text: String,
    pub(crate) code: ExitCode,
}

impl State {
    pub(crate) fn fine_if(is_fine: bool) -> Self {
        if is_fine {
            Self::Fine
        } else {
            Self::NeedsAttention
        }
    }
}

pub(crate) fn printed(report: &impl Report, format: Format) -> Result<Printed> {
    let text = match format {
        Format::Table => report.text(),
        Format::Json => {
            let json = serde_json::to_string_pretty(report).context("write the report as JSON")?;
            format!("{json}\n")
        }
    };
    let code = match report.state() {
        State::Fine => ExitCode::SUCCESS,
        State::NeedsAttention => ExitCode::FAILURE,
    };
    Ok(Printed { text, code })
}
