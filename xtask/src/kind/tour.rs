//! README.md's tour, run as it stands there: what the reader types is what is proven.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use testbed::cluster::{Cluster, operator};
use testbed::progress;

use super::shell::Shell;
use crate::setup;

/// The section of README.md whose first block of code is the tour.
const SECTION: &str = "## On a kind cluster\n";
/// How the tour begins. We have done that ourselves, without a shell in between.
const BEFORE: [&str; 2] = ["cargo xtask kind create", "eval \"$(cargo xtask kind env)\""];
/// For one command of the tour.
const LIMIT: Duration = Duration::from_mins(6);
/// For the runtime to be on every node.
const ROLLOUT_LIMIT: Duration = Duration::from_mins(5);

/// Runs the tour on `cluster`, then waits until every node has the runtime and shows what the operator says.
pub(super) fn run(cluster: &Cluster, shell: &Shell) -> Result<()> {
    let path = setup::repository().join("README.md");
    let readme = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let lines = commands(&readme)?;
    let started = Instant::now();
    for line in &lines {
        type_in(shell, line).map_err(|error| error.context(cluster.operator_evidence()))?;
    }
    progress::say(format_args!("from nothing to the end of the first pod {}", progress::seconds(started.elapsed())));
    progress::step("every node has the runtime", || {
        cluster.wait_for_condition(operator::RUNTIME, "Available", "True", ROLLOUT_LIMIT)?;
        cluster.wait_for_condition(operator::RUNTIME, "Progressing", "False", ROLLOUT_LIMIT)
    })?;
    type_in(shell, "kubectl get wasmruntimes,wasmruntimenodes")
}

/// Shows a command, and what it prints.
fn type_in(shell: &Shell, line: &str) -> Result<()> {
    progress::say(format_args!("\n$ {line}"));
    let started = Instant::now();
    let text = shell.run(line)?.deadline(LIMIT).text()?;
    progress::say(format_args!("{}\n{}", text.trim_end(), progress::seconds(started.elapsed())));
    Ok(())
}

/// The tour's commands after those in [`BEFORE`].
fn commands(readme: &str) -> Result<Vec<String>> {
    let (_, section) = readme.split_once(SECTION).with_context(|| format!("README.md has no section {SECTION:?}"))?;
    let block = section.lines().skip_while(|line| !is_code(line)).take_while(|line| is_code(line));
    let mut lines: Vec<String> = Vec::new();
    let mut open = false;
    for line in block {
        // A comment stands at some distance; a `#` within a command does not.
        let line = line.trim().split("  #").next().unwrap_or_default().trim_end();
        let (text, goes_on) = line.strip_suffix(" \\").map_or((line, false), |text| (text, true));
        match lines.last_mut().filter(|_| open) {
            Some(last) => *last = format!("{last} {text}"),
            None => lines.push(text.to_owned()),
        }
        open = goes_on;
    }
    let after = lines.split_off(BEFORE.len().min(lines.len()));
    ensure!(lines == BEFORE, "README.md's tour begins with {lines:?}, and not with {BEFORE:?}");
    Ok(after)
}

fn is_code(line: &str) -> bool {
    line.starts_with("    ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_may_go_over_several_lines_and_have_a_comment() {
        let text = format!(
            "# x\n{SECTION}Text\n\n    {}   # a cluster\n    {}\n    helm install x \\\n      --set a=b  # c\n    kubectl logs x#y\n\n    other\n",
            BEFORE[0], BEFORE[1]
        );
        assert_eq!(commands(&text).unwrap(), ["helm install x --set a=b", "kubectl logs x#y"]);
        assert!(commands(&format!("{SECTION}\n    kubectl apply\n")).is_err());
        assert!(commands("# x\n").is_err());
    }

    #[test]
    fn the_readmes_tour_installs_by_helm_and_runs_an_example() {
        let readme = fs::read_to_string(setup::repository().join("README.md")).unwrap();
        let commands = commands(&readme).unwrap();
        let begins: Vec<&str> = commands.iter().map(|line| line.split(" -").next().unwrap_or(line)).collect();
        assert_eq!(begins, ["helm install wasmedge charts/wasmedge-operator", "kubectl apply", "kubectl wait", "kubectl logs hello"]);
    }
}
