//! What the executable answers by itself, before and beside any container.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testbed::isolated_namespace::{IsolatedNamespace, Lifetime, NamespaceOptions, Network};
use testbed::teardown::Run;

use crate::node::{Node, Verdict, tests};

tests![
    information_is_given_at_once,
    information_has_no_side_effect,
    the_version_is_given_at_once,
    an_unknown_command_is_refused
];

const LAUNCHER: &str = "containerd-shim-wasmedge-v1";
/// containerd 2.2 and later ask with every task.
const AT_ONCE: Duration = Duration::from_millis(50);

/// What the launcher prints, and the best time of a few: the machine may be busy, the program must
/// not be.
fn ask(node: &Node, words: &[&str]) -> Result<(Vec<u8>, Duration)> {
    let launcher = node.prepared.shims().join(LAUNCHER);
    let mut best = Duration::MAX;
    let mut said = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        let output = testbed::command::Run::new(&launcher).args(words).output()?;
        best = best.min(started.elapsed());
        ensure!(
            output.status.success(),
            "{LAUNCHER} {words:?}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        said = output.stdout;
    }
    Ok((said, best))
}

fn information_is_given_at_once(node: &Node) -> Result<Verdict> {
    let (said, took) = ask(node, &["-info"])?;
    let name = b"io.containerd.wasmedge.v1";
    ensure!(
        said.windows(name.len()).any(|window| window == name),
        "its name is not in {:?}",
        String::from_utf8_lossy(&said)
    );
    ensure!(took < AT_ONCE, "it took {took:?}");
    Ok(Verdict::Holds)
}

fn information_has_no_side_effect(node: &Node) -> Result<Verdict> {
    // An isolated namespace shows every process that is left, and its own /run every file and
    // socket.
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

fn the_version_is_given_at_once(node: &Node) -> Result<Verdict> {
    let (said, took) = ask(node, &["-v"])?;
    let said = String::from_utf8_lossy(&said);
    ensure!(
        said.contains(env!("CARGO_PKG_VERSION")),
        "its version is not in {said:?}"
    );
    ensure!(took < AT_ONCE, "it took {took:?}");
    Ok(Verdict::Holds)
}

fn an_unknown_command_is_refused(node: &Node) -> Result<Verdict> {
    let output = testbed::command::Run::new(node.prepared.shims().join(LAUNCHER))
        .arg("frobnicate")
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && said.contains("frobnicate"),
        "{}: {said:?}",
        output.status
    );
    Ok(Verdict::Holds)
}
