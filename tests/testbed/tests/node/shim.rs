//! The launcher's commands that need no container.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testbed::isolated_namespace::{IsolatedNamespace, Lifetime, NamespaceOptions, Network};
use testbed::teardown::Run;
use testbed::wait;

use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, tests};

tests![
    launcher_prints_its_information_within_50_ms,
    launcher_information_has_no_side_effect,
    launcher_prints_its_version_within_50_ms,
    launcher_refuses_an_unknown_command
];

const LAUNCHER: &str = "containerd-shim-wasmedge-v1";
/// containerd 2.2 and later run the command with every task.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(50);

/// Runs the launcher until one run takes less than [`ANSWER_TIMEOUT`], because on a busy machine
/// most of a run may be a wait for the processor. Returns its output.
fn ask(node: &Node, args: &[&str]) -> Result<Vec<u8>> {
    let launcher = node.prepared.shims().join(LAUNCHER);
    let best = Cell::new(Duration::MAX);
    wait::until(
        format_args!("{LAUNCHER} {args:?} to take less than {ANSWER_TIMEOUT:?}"),
        SETTLE_TIMEOUT,
        || {
            let started = Instant::now();
            let output = testbed::command::Run::new(&launcher).args(args).output()?;
            best.set(best.get().min(started.elapsed()));
            ensure!(
                output.status.success(),
                "{LAUNCHER} {args:?}: {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
            Ok((best.get() < ANSWER_TIMEOUT).then_some(output.stdout))
        },
        || format!("the shortest run took {:?}", best.get()),
    )
}

fn launcher_prints_its_information_within_50_ms(node: &Node) -> Result<Verdict> {
    let printed = ask(node, &["-info"])?;
    let name = b"io.containerd.wasmedge.v1";
    ensure!(
        printed.windows(name.len()).any(|window| window == name),
        "its name is not in {:?}",
        String::from_utf8_lossy(&printed)
    );
    Ok(Verdict::Holds)
}

fn launcher_information_has_no_side_effect(node: &Node) -> Result<Verdict> {
    // An isolated namespace shows every leftover process, and its own /run every file and socket.
    let run = Run::start("info")?;
    let isolated = IsolatedNamespace::start(
        &run,
        NamespaceOptions {
            network: Network::Host,
            lifetime: Lifetime::Process,
        },
    )?;
    for folder in ["/tmp", "/run", "/var/lib"] {
        isolated.mount_memory(Path::new(folder))?;
    }
    let launcher = node.prepared.shims().join(LAUNCHER);
    let files = || {
        isolated
            .run("find")
            .args(["/tmp", "/run", "/var/lib", "-mindepth", "1"])
            .text()
    };
    let before = files()?;
    let output = isolated
        .run("env")
        .arg("-i")
        .arg(&launcher)
        .arg("-info")
        .output()?;
    ensure!(
        output.status.success() && output.stderr.is_empty(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let after = files()?;
    ensure!(after == before, "it left files:\n{after}");
    let processes = isolated
        .run("sh")
        .args(["-c", "cat /proc/[0-9]*/comm"])
        .text()?;
    let stray: Vec<&str> = processes
        .lines()
        .filter(|name| !matches!(*name, "cat" | "sh"))
        .collect();
    ensure!(stray.is_empty(), "it left processes: {stray:?}");
    run.finish()?;
    Ok(Verdict::Holds)
}

fn launcher_prints_its_version_within_50_ms(node: &Node) -> Result<Verdict> {
    let printed = ask(node, &["-v"])?;
    let printed = String::from_utf8_lossy(&printed);
    ensure!(
        printed.contains(env!("CARGO_PKG_VERSION")),
        "its version is not in {printed:?}"
    );
    Ok(Verdict::Holds)
}

fn launcher_refuses_an_unknown_command(node: &Node) -> Result<Verdict> {
    let output = testbed::command::Run::new(node.prepared.shims().join(LAUNCHER))
        .arg("frobnicate")
        .output()?;
    let printed = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && printed.contains("frobnicate"),
        "{}: {printed:?}",
        output.status
    );
    Ok(Verdict::Holds)
}
