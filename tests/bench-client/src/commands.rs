//! Benchmark of a command line, from start to end.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::plan::{ID, Plan, Samples};

/// Timeout of a command.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(1);

pub(crate) async fn run(plan: &Plan) -> Result<Samples> {
    let mut samples = Samples::default();
    for turn in plan.turns() {
        let command_line: Vec<String> = turn
            .subject
            .command
            .iter()
            .map(|argument| argument.replace(ID, &turn.id()))
            .collect();
        let (program, arguments) = command_line
            .split_first()
            .with_context(|| format!("{} has no command", turn.subject.name))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let started = Instant::now();
        let output = tokio::time::timeout(COMMAND_TIMEOUT, command.output()).await;
        let output = output
            .with_context(|| {
                format!(
                    "{} has not ended in {COMMAND_TIMEOUT:?}",
                    command_line.join(" ")
                )
            })?
            .with_context(|| format!("start {program}"))?;
        let took = started.elapsed();
        ensure!(
            output.status.success(),
            "{}: {}\n{}",
            command_line.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        if turn.counts {
            samples.time(&turn.subject.name, "run", took);
        }
    }
    Ok(samples)
}
