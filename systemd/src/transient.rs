//! Transient units: the properties for systemd's `StartTransientUnit`.

use std::time::Duration;

use zvariant::Value;

use super::error::SystemdError;

/// Properties by name.
pub(super) type Properties = Vec<(&'static str, Value<'static>)>;
/// `StartTransientUnit` can start further units; none are.
pub(super) const NO_OTHER_UNITS: Vec<(&str, Properties)> = Vec::new();

/// Returns the properties of a service that runs `command` once, for at most `limit`.
pub(super) fn properties(
    description: &str,
    command: &[String],
    limit: Duration,
) -> Result<Properties, SystemdError> {
    let Some(program) = command.first() else {
        return Err(SystemdError::Malformed {
            what: "StartTransientUnit".to_owned(),
            problem: "a command without a program".to_owned(),
        });
    };
    // Program, all arguments with the program's name first, and whether a failure is ignored.
    let start = vec![(program.clone(), command.to_vec(), false)];
    let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
    Ok(vec![
        ("Description", Value::from(description.to_owned())),
        // The job fails if the program cannot be executed; with `simple` it would not.
        ("Type", Value::from("exec")),
        ("ExecStart", Value::from(start)),
        ("RuntimeMaxUSec", Value::from(limit)),
        // A failed unit would stay and block its name.
        ("CollectMode", Value::from("inactive-or-failed")),
    ])
}
