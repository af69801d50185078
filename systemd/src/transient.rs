//! A unit that lies in no file: its settings as systemd's `StartTransientUnit` takes them.

use std::time::Duration;

use zvariant::Value;

use super::error::SystemdError;

/// Settings by name.
pub(super) type Properties = Vec<(&'static str, Value<'static>)>;
/// `StartTransientUnit` can make more units in one go.
pub(super) const NO_OTHER_UNITS: Vec<(&str, Properties)> = Vec::new();

/// The settings of a service that runs `command` once, for at most `limit`.
pub(super) fn properties(
    description: &str,
    command: &[String],
    limit: Duration,
) -> Result<Properties, SystemdError> {
    let Some(program) = command.first() else {
        return Err(SystemdError::Malformed {
            what: "StartTransientUnit".to_owned(),
            problem: "a command without program".to_owned(),
        });
    };
    // Program, all arguments with the program's name first, and whether a failure counts as
    // success.
    let start = vec![(program.clone(), command.to_vec(), false)];
    let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
    Ok(vec![
        ("Description", Value::from(description.to_owned())),
        // The job is done when the program is executed, and fails when it cannot be; `simple` would
        // not tell.
        ("Type", Value::from("exec")),
        ("ExecStart", Value::from(start)),
        ("RuntimeMaxUSec", Value::from(limit)),
        // A failed one would stay, and its name could not be used again.
        ("CollectMode", Value::from("inactive-or-failed")),
    ])
}
