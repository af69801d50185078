//! Tests of the test environment: isolated namespaces, and containerd with runc.

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
    isolated_namespace_sees_only_its_own_processes,
    mount_in_an_isolated_namespace_is_not_seen_outside,
    stopped_isolated_namespace_ends_its_processes,
    orphan_in_an_isolated_namespace_leaves_no_zombie,
    isolated_namespace_with_a_private_network_is_reached_by_its_address,
    native_container_runs_on_runc,
];

const TIMEOUT: Duration = Duration::from_secs(10);

fn isolated_namespace_sees_only_its_own_processes(node: &Node) -> Result<Verdict> {
    let first = node.isolated.run("cat").arg("/proc/1/comm").text()?;
    ensure!(first == "cat", "the first process inside is {first}");
    Ok(Verdict::Holds)
}

fn mount_in_an_isolated_namespace_is_not_seen_outside(node: &Node) -> Result<Verdict> {
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

fn stopped_isolated_namespace_ends_its_processes(_node: &Node) -> Result<Verdict> {
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
    service.ensure_running()?;
    isolated.stop()?;
    wait::until(
        "the processes inside to be gone",
        TIMEOUT,
        || service.exit_status(),
        || "its process is still there".to_owned(),
    )?;
    run.finish()?;
    Ok(Verdict::Holds)
}

fn orphan_in_an_isolated_namespace_leaves_no_zombie(node: &Node) -> Result<Verdict> {
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
        TIMEOUT,
        || Ok(zombies()?.is_empty().then_some(())),
        || zombies().unwrap_or_else(|error| format!("{error:#}")),
    )?;
    Ok(Verdict::Holds)
}

fn isolated_namespace_with_a_private_network_is_reached_by_its_address(
    _node: &Node,
) -> Result<Verdict> {
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
    ensure!(text == "hello", "the outgoing connection returned {text:?}");
    // Nothing listens inside. An immediate refusal by the kernel inside shows that the address is
    // reached.
    let refused = TcpStream::connect_timeout(&(isolated.address(), 9).into(), TIMEOUT)
        .and_then(|mut stream| stream.read(&mut [0]));
    ensure!(
        refused
            .as_ref()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused),
        "the incoming connection: {refused:?}"
    );
    run.finish()?;
    Ok(Verdict::Holds)
}

fn native_container_runs_on_runc(node: &Node) -> Result<Verdict> {
    let finished = node
        .native(&["env"])?
        .runtime(Runtime::Runc)
        .env("FROM", "ctr")
        .run()?;
    // runc adds HOME.
    expect(&finished, 0, "FROM=ctr\nHOME=/\nIMAGE=native\n")
}
