//! The state of a unit.

use std::fmt;

use zvariant::Value;

use super::message::{Body, Malformed};

/// The result of a job that succeeded.
pub(super) const DONE: &str = "done";
/// The result of a service that did not fail.
pub(super) const SUCCESS: &str = "success";

/// The state of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name, as requested.
    pub name: String,
    /// Whether systemd found its file.
    pub load: LoadState,
    /// Its activity.
    pub active: ActiveState,
    /// The time since which it is active, in microseconds since 1970; 0 if it never was.
    pub active_since: u64,
    /// Its main process; 0 if none runs.
    pub main_pid: u32,
    /// The program of its first `ExecStart`.
    pub program: Option<String>,
    /// That program's arguments, the first being its name.
    pub arguments: Vec<String>,
    /// Environment variables of the unit, each as `NAME=value`; the arguments may refer to them.
    pub environment: Vec<String>,
    /// Environment files, which take precedence. A leading `-` (the file may be absent) is removed.
    pub environment_files: Vec<String>,
    /// The result of its last run: `success`, `exit-code`, `signal`, …
    pub result: String,
}

/// Whether a unit's file was found and is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadState {
    /// It was.
    Loaded,
    /// There is none.
    NotFound,
    /// Another state: `masked`, `bad-setting`, `error`, …
    Other(String),
}

impl LoadState {
    pub(super) fn parse(text: &str) -> Self {
        match text {
            "loaded" => Self::Loaded,
            "not-found" => Self::NotFound,
            _ => Self::Other(text.to_owned()),
        }
    }
}

/// The activity of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActiveState {
    /// It runs.
    Active,
    /// It runs and reloads its configuration.
    Reloading,
    /// It does not run.
    Inactive,
    /// It failed.
    Failed,
    /// It is being started, or waits for a retry.
    Activating,
    /// It is being stopped.
    Deactivating,
    /// A state of newer versions of systemd.
    Other,
}

impl ActiveState {
    pub(super) fn parse(text: &str) -> Self {
        match text {
            "active" => Self::Active,
            "reloading" => Self::Reloading,
            "inactive" => Self::Inactive,
            "failed" => Self::Failed,
            "activating" => Self::Activating,
            "deactivating" => Self::Deactivating,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for ActiveState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Reloading => "reloading",
            Self::Inactive => "inactive",
            Self::Failed => "failed",
            Self::Activating => "activating",
            Self::Deactivating => "deactivating",
            Self::Other => "in an unknown state",
        })
    }
}

/// Returns whether a unit is active, in another run than before.
pub(super) fn is_another_run(before: &Unit, after: &Unit) -> bool {
    let run = |unit: &Unit| (unit.main_pid, unit.active_since);
    matches!(after.active, ActiveState::Active | ActiveState::Reloading)
        && run(before) != run(after)
}

pub(super) fn text(body: &Body) -> Result<String, Malformed> {
    match body.read::<(Value<'_>,)>()?.0 {
        Value::Str(text) => Ok(text.to_string()),
        other => Err(unexpected(&other)),
    }
}

pub(super) fn microseconds(body: &Body) -> Result<u64, Malformed> {
    match body.read::<(Value<'_>,)>()?.0 {
        Value::U64(number) => Ok(number),
        other => Err(unexpected(&other)),
    }
}

pub(super) fn pid(body: &Body) -> Result<u32, Malformed> {
    match body.read::<(Value<'_>,)>()?.0 {
        Value::U32(number) => Ok(number),
        other => Err(unexpected(&other)),
    }
}

/// Returns program and arguments of the first command in a list. A command also has the result of
/// its last run, which is skipped.
pub(super) fn first_command(body: &Body) -> Result<Option<(String, Vec<String>)>, Malformed> {
    let (Value::Array(commands),) = body.read::<(Value<'_>,)>()? else {
        return Err(Malformed("commands that are not a list".to_owned()));
    };
    let Some(command) = commands.inner().first() else {
        return Ok(None);
    };
    let Value::Structure(fields) = command else {
        return Err(unexpected(command));
    };
    let [Value::Str(program), Value::Array(arguments), ..] = fields.fields() else {
        return Err(unexpected(command));
    };
    Ok(Some((
        program.to_string(),
        arguments
            .inner()
            .iter()
            .map(text_of)
            .collect::<Result<_, _>>()?,
    )))
}

/// Parses a list of texts.
pub(super) fn texts(body: &Body) -> Result<Vec<String>, Malformed> {
    let (Value::Array(values),) = body.read::<(Value<'_>,)>()? else {
        return Err(Malformed("texts that are not a list".to_owned()));
    };
    values.inner().iter().map(text_of).collect()
}

/// Parses the paths of a list of files, each with whether it may be absent.
pub(super) fn paths(body: &Body) -> Result<Vec<String>, Malformed> {
    let (Value::Array(files),) = body.read::<(Value<'_>,)>()? else {
        return Err(Malformed("files that are not a list".to_owned()));
    };
    let path = |file: &Value<'_>| match file {
        Value::Structure(fields) => fields
            .fields()
            .first()
            .map_or_else(|| Err(unexpected(file)), text_of),
        other => Err(unexpected(other)),
    };
    files.inner().iter().map(path).collect()
}

fn text_of(value: &Value<'_>) -> Result<String, Malformed> {
    match value {
        Value::Str(text) => Ok(text.to_string()),
        other => Err(unexpected(other)),
    }
}

fn unexpected(value: &Value<'_>) -> Malformed {
    Malformed(format!(
        "a value of type {:?}",
        value.value_signature().to_string_no_parens()
    ))
}
