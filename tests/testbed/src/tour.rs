//! README.md's tour, run exactly as a reader types it.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::cluster::{Cluster, operator};
use crate::progress;

mod shell;

pub use shell::{REGISTRY_VARIABLE, Shell};

/// The section of README.md with the tour as its first block of code.
const SECTION: &str = "## On a kind cluster\n";
/// The tour's first commands. The caller has done these steps itself.
const SETUP_COMMANDS: [&str; 2] = [
    "cargo xtask kind create",
    "eval \"$(cargo xtask kind env)\"",
];
/// Timeout of one command of the tour.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(6);
/// Timeout for the runtime to be on every node.
const ROLLOUT_TIMEOUT: Duration = Duration::from_mins(5);

/// Runs the tour on `cluster`, with the images in its registry, waits until every node has the
/// runtime, and shows the operator's objects. Returns the output of the tour's last command: the
/// first pod's log.
///
/// # Errors
/// Fails if README.md has no tour, a command fails, or a node does not get the runtime.
pub fn run(cluster: &Cluster, shell: &Shell) -> Result<String> {
    let lines = commands(&readme()?)?;
    let started = Instant::now();
    let mut printed = String::new();
    for line in &lines {
        printed = show_and_run(shell, line)
            .map_err(|error| error.context(cluster.operator_evidence()))?;
    }
    let took = progress::seconds(started.elapsed());
    progress::print_line(format_args!(
        "from the beginning of helm install to the log of the first WebAssembly pod {took}"
    ));
    progress::step("every node has the runtime", || {
        cluster.wait_for_condition(operator::RUNTIME, "Available", "True", ROLLOUT_TIMEOUT)?;
        cluster.wait_for_condition(operator::RUNTIME, "Progressing", "False", ROLLOUT_TIMEOUT)
    })?;
    show_and_run(shell, "kubectl get wasmruntimes,wasmruntimenodes")?;
    Ok(printed)
}

/// Runs the one command after the tour, in the same section, that begins with `prefix`. Returns its
/// output.
///
/// # Errors
/// Fails if README.md has no such command, or it fails.
pub fn run_further(cluster: &Cluster, shell: &Shell, prefix: &str) -> Result<String> {
    let line = further(&readme()?, prefix)?;
    show_and_run(shell, &line).map_err(|error| error.context(cluster.operator_evidence()))
}

/// Prints a command and its output.
fn show_and_run(shell: &Shell, line: &str) -> Result<String> {
    progress::print_line(format_args!("\n$ {line}"));
    let started = Instant::now();
    let text = shell.run(line)?.deadline(COMMAND_TIMEOUT).text()?;
    progress::print_line(format_args!(
        "{}\n{}",
        text.trim_end(),
        progress::seconds(started.elapsed())
    ));
    Ok(text)
}

fn readme() -> Result<String> {
    let path = shell::repository().join("README.md");
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// Returns the tour's commands after those in [`SETUP_COMMANDS`].
fn commands(readme: &str) -> Result<Vec<String>> {
    let mut lines = blocks(readme)?.into_iter().next().unwrap_or_default();
    let after = lines.split_off(SETUP_COMMANDS.len().min(lines.len()));
    ensure!(
        lines == SETUP_COMMANDS,
        "README.md's tour begins with {lines:?}, and not with {SETUP_COMMANDS:?}"
    );
    Ok(after)
}

/// Returns the command after the tour that begins with `prefix`.
fn further(readme: &str, prefix: &str) -> Result<String> {
    let mut lines = blocks(readme)?.into_iter().skip(1).flatten();
    lines
        .find(|line| line.starts_with(prefix))
        .with_context(|| format!("README.md has no {prefix:?} after its tour"))
}

/// Returns the commands of each block of code in the tour's section.
fn blocks(readme: &str) -> Result<Vec<Vec<String>>> {
    let (_, section) = readme
        .split_once(SECTION)
        .with_context(|| format!("README.md has no section {SECTION:?}"))?;
    let mut blocks: Vec<Vec<String>> = Vec::new();
    let (mut inside, mut open) = (false, false);
    for line in section.lines().take_while(|line| !line.starts_with("## ")) {
        let was_inside = std::mem::replace(&mut inside, line.starts_with("    "));
        if !inside {
            continue;
        }
        if !was_inside {
            blocks.push(Vec::new());
            open = false;
        }
        let Some(block) = blocks.last_mut() else {
            continue;
        };
        // A comment follows at some distance; a `#` within a command does not.
        let line = line
            .trim()
            .split("  #")
            .next()
            .unwrap_or_default()
            .trim_end();
        let (text, goes_on) = line
            .strip_suffix(" \\")
            .map_or((line, false), |text| (text, true));
        match block.last_mut().filter(|_| open) {
            Some(last) => *last = format!("{last} {text}"),
            None => block.push(text.to_owned()),
        }
        open = goes_on;
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tour_command_may_span_lines_and_have_a_comment() {
        let text = format!(
            "# x\n{SECTION}Text\n\n    {}   # a cluster\n    {}\n    helm install x \\\n      \
             --set a=b  # c\n    kubectl logs x#y\n\n\
             More:\n\n    other y  # z\n\n## Next\n\n    last\n",
            SETUP_COMMANDS[0], SETUP_COMMANDS[1]
        );
        assert_eq!(
            commands(&text).unwrap(),
            ["helm install x --set a=b", "kubectl logs x#y"]
        );
        assert_eq!(further(&text, "other").unwrap(), "other y");
        assert!(further(&text, "last").is_err() && further(&text, "kubectl").is_err());
        assert!(commands(&format!("{SECTION}\n    kubectl apply\n")).is_err());
        assert!(commands("# x\n").is_err());
    }

    #[test]
    fn readme_tour_installs_by_helm_and_runs_an_example() {
        let readme = readme().unwrap();
        let commands = commands(&readme).unwrap();
        let begins: Vec<&str> = commands
            .iter()
            .map(|line| line.split(" -").next().unwrap_or(line))
            .collect();
        assert_eq!(
            begins,
            [
                "helm install wasmedge charts/wasmedge-operator",
                "kubectl apply",
                "kubectl wait",
                "kubectl logs hello"
            ]
        );
        for prefix in ["helm test", "helm uninstall"] {
            assert!(further(&readme, prefix).is_ok(), "{prefix}");
        }
    }
}
