//! Containers with CRI's annotations: one pod, its sandbox, guests and native sidecars side by
//! side.

use anyhow::{Result, ensure};
use test_guests::SPIN;
use testbed::containerd::{Container, Task};

use crate::node::{Node, Verdict, expect, tests};

tests![
    a_native_container_runs_with_its_own_environment,
    native_container_gets_its_arguments_and_reports_its_exit_code,
    containers_of_a_pod_share_a_host,
    containers_of_different_pods_share_a_host_as_well,
];

fn a_native_container_runs_with_its_own_environment(node: &Node) -> Result<Verdict> {
    let finished = node.native(&["env"])?.env("FROM_CTR", "2").run()?;
    let text = finished.text();
    ensure!(
        finished.code == 0,
        "exit code {}; standard error:\n{}",
        finished.code,
        finished.stderr
    );
    // OCI runtimes add HOME; nothing else may be there.
    let own: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("HOME="))
        .collect();
    ensure!(
        own == ["FROM_CTR=2", "IMAGE=native"],
        "its environment is {text:?}"
    );
    Ok(Verdict::Holds)
}

fn native_container_gets_its_arguments_and_reports_its_exit_code(node: &Node) -> Result<Verdict> {
    expect(
        &node.native(&["args", "a b"])?.run()?,
        0,
        "/native\nargs\na b\n",
    )?;
    expect(&node.native(&["exit", "3"])?.run()?, 3, "")
}

/// Annotates a container as CRI does for the pod `sandbox`.
fn of_pod(container: Container, kind: &str, sandbox: &str) -> Container {
    container
        .annotation("io.kubernetes.cri.container-type", kind)
        .annotation("io.kubernetes.cri.sandbox-id", sandbox)
}

/// Returns the address of the host that serves a task.
fn host_of(node: &Node, task: &Task) -> Result<String> {
    let file = format!(
        "{}/{}/address",
        node.containerd.tasks_folder().display(),
        task.id()
    );
    node.isolated.run("cat").arg(file).text()
}

fn end(tasks: impl IntoIterator<Item = Task>) -> Result<()> {
    for task in tasks {
        task.kill("SIGKILL")?;
        task.wait(std::time::Duration::from_secs(15))?;
        task.delete()?;
    }
    Ok(())
}

fn containers_of_a_pod_share_a_host(node: &Node) -> Result<Verdict> {
    let pause = node.native(&["sleep"])?;
    let pod = pause.id().to_owned();
    let pause = of_pod(pause, "sandbox", &pod).start()?;
    let guest = of_pod(node.guest(&SPIN)?, "container", &pod).start()?;
    let sidecar = of_pod(node.native(&["tick"])?, "container", &pod).start()?;
    let hosts = [
        host_of(node, &pause)?,
        host_of(node, &guest)?,
        host_of(node, &sidecar)?,
    ];
    end([guest, sidecar, pause])?;
    ensure!(
        hosts.iter().all(|host| *host == hosts[0]),
        "one pod has several hosts: {hosts:?}"
    );
    Ok(Verdict::Holds)
}

fn containers_of_different_pods_share_a_host_as_well(node: &Node) -> Result<Verdict> {
    let start = |pod: &str| of_pod(node.guest(&SPIN)?, "container", &node.id(pod)).start();
    let (one, other) = (start("one")?, start("other")?);
    let hosts = (host_of(node, &one)?, host_of(node, &other)?);
    end([one, other])?;
    ensure!(
        hosts.0 == hosts.1,
        "the pods have the hosts {} and {}",
        hosts.0,
        hosts.1
    );
    Ok(Verdict::Holds)
}
