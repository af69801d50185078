//! What the tests themselves stand on: namespaces, and containerd with the runtime that comes with
//! it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use testbed::containerd::Runtime;
use testbed::isolated_namespace::{IsolatedNamespace, Lifetime, NamespaceOptions, Network};
use testbed::teardown::Run;
use testbed::wait;

use crate::node::{Node, Verdict, expect, tests};

tests![
    a_cell_sees_only_its_own_processes,
    a_mount_in_a_cell_is_not_seen_outside,
    stopping_a_cell_ends_what_runs_inside,
    an_orphan_in_a_cell_leaves_no_zombie,
    a_cell_with_a_network_of_its_own_is_reached_by_its_address,
    a_native_container_runs_on_the_runtime_that_comes_with_containerd,
];

const LIMIT: Duration = Duration::from_secs(10);

fn a_cell_sees_only_its_own_processes(node: &Node) -> Result<Verdict> {
    let first = node.isolated.run("cat").arg("/proc/1/comm").text()?;
    ensure!(first == "cat", "the first process inside is {first}");
    Ok(Verdict::Holds)
}

fn a_mount_in_a_cell_is_not_seen_outside(node: &Node) -> Result<Verdict> {
    let folder = node.folder()?;
    node.isolated.mount_memory(&folder)?;
    node.isolated.run("touch").arg(folder.join("file")).done()?;
    ensure!(
        !folder.join("file").exists(),
        "{} is mounted outside too",
        folder.display()
    );
    Ok(Verdict::Holds)
}

fn stopping_a_cell_ends_what_runs_inside(_node: &Node) -> Result<Verdict> {
    let run = Run::start("stop")?;
    let isolated = IsolatedNamespace::start(
        &run,
        NamespaceOptions {
            network: Network::Host,
            lifetime: Lifetime::Process,
        },
    )?;
    let mut command = isolated.command("sleep");
    command.arg("600");
    let service = isolated.spawn("sleep", command)?;
    service.must_be_up()?;
    isolated.stop()?;
    wait::until(
        "what ran inside to be gone",
        LIMIT,
        || service.ended(),
        || "its process is still there".to_owned(),
    )?;
    run.finish()?;
    Ok(Verdict::Holds)
}

fn an_orphan_in_a_cell_leaves_no_zombie(node: &Node) -> Result<Verdict> {
    node.isolated
        .run("sh")
        .args(["-c", "(sleep 0.01 &)"])
        .done()?;
    let zombies = || {
        node.isolated
            .run("sh")
            .args(["-c", "grep -l '^State:.Z' /proc/[0-9]*/status || true"])
            .text()
    };
    wait::until(
        "no zombie in the namespace",
        LIMIT,
        || Ok(zombies()?.is_empty().then_some(())),
        || zombies().unwrap_or_else(|error| format!("{error:#}")),
    )?;
    Ok(Verdict::Holds)
}

fn a_cell_with_a_network_of_its_own_is_reached_by_its_address(_node: &Node) -> Result<Verdict> {
    let run = Run::start("net")?;
    let isolated = IsolatedNamespace::start(
        &run,
        NamespaceOptions {
            network: Network::Private,
            lifetime: Lifetime::Process,
        },
    )?;
    let listener = TcpListener::bind((isolated.gateway(), 0))
        .context("listen on the machine's end of the link")?;
    let port = listener.local_addr()?.port();
    let server =
        std::thread::spawn(move || -> Result<()> { Ok(listener.accept()?.0.write_all(b"hello")?) });
    let text = isolated
        .run("bash")
        .args([
            "-c",
            &format!("cat </dev/tcp/{}/{port}", isolated.gateway()),
        ])
        .text()?;
    server
        .join()
        .map_err(|_| anyhow!("the server panicked"))??;
    ensure!(text == "hello", "the way out gave {text:?}");
    // Nothing listens inside. That the kernel inside refuses, at once, shows that the way in leads
    // there.
    let refused = TcpStream::connect_timeout(&(isolated.address(), 9).into(), LIMIT)
        .and_then(|mut stream| stream.read(&mut [0]));
    ensure!(
        refused
            .as_ref()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused),
        "the way in: {refused:?}"
    );
    run.finish()?;
    Ok(Verdict::Holds)
}

fn a_native_container_runs_on_the_runtime_that_comes_with_containerd(
    node: &Node,
) -> Result<Verdict> {
    let finished = node
        .native(&["env"])?
        .runtime(Runtime::Runc)
        .env("FROM", "ctr")
        .run()?;
    // runc adds HOME.
    expect(&finished, 0, "FROM=ctr\nHOME=/\nIMAGE=native\n")
}
