//! A pod as kubelet creates it, on the machine's network.

use anyhow::{Result, ensure};
use cri_calls::Cri;
use cri_calls::config::{self, NamespaceMode, PodConfig};

use super::checks;
use crate::containerd::Containerd;
use crate::fixture::{Driver, Fixture, IMAGE, nothing_left};
use crate::machine;

checks![pod_has_no_process_and_is_removed_completely];

/// The containerd namespace of CRI.
const NAMESPACE: &str = "k8s.io";
/// Timeout of an exec in seconds: the machine is emulated.
const EXEC_TIMEOUT_SECONDS: i64 = 30;

fn pod_has_no_process_and_is_removed_completely(fixture: &Fixture, driver: Driver) -> Result<()> {
    let cri = Cri::new(&fixture.containerd);
    let name = fixture.id(driver, "pod");
    let config = config::pod(
        &name,
        NamespaceMode::Node,
        NamespaceMode::Container,
        &driver.pods_parent(&name),
    );
    let sandbox = cri.run_sandbox(&config, &format!("wasmedge-{}", driver.name()))?;
    let checked = inspect(&cri, &sandbox, &config);
    // Removed in any case, so that the next test does not find it.
    cri.remove_sandbox(&sandbox)?;
    let guest = checked?;
    nothing_left(NAMESPACE, &guest)?;
    nothing_left(NAMESPACE, &sandbox)
}

/// Checks a pod with one guest; returns the guest's id.
fn inspect(cri: &Cri<'_, Containerd>, sandbox: &str, config: &PodConfig) -> Result<String> {
    let guest = cri.create_container(
        sandbox,
        config,
        config.container("guest", IMAGE, &["/app.wasm", "sleep", "600"]),
    )?;
    cri.start_container(&guest)?;
    for (args, expected) in [
        (&["/native", "args", "a b"][..], "/native\nargs\na b\n"),
        (&["/hello.wasm"], "hello from wasm\n"),
    ] {
        let answer = cri.exec_sync(&guest, args, EXEC_TIMEOUT_SECONDS)?;
        ensure!(
            answer.exit_code == 0 && answer.text() == expected,
            "exec of {args:?} ended as {answer:?}"
        );
    }
    let memory = cri.stats(&guest)?.memory();
    ensure!(
        (1 << 16..1 << 30).contains(&memory),
        "it uses {memory} bytes"
    );
    // The pause image has a name and no program: a start of it would have failed above.
    for id in [sandbox, &guest] {
        let cgroups = machine::cgroups_naming(id);
        ensure!(!cgroups.is_empty(), "no cgroup bears the id {id}");
    }
    let processes = machine::processes()?;
    let named: Vec<_> = processes
        .iter()
        .filter(|seen| seen.command.split(' ').any(|word| word == sandbox))
        .collect();
    ensure!(
        named
            .iter()
            .all(|seen| seen.command.contains("wasmedge-host")),
        "processes of the sandbox: {named:?}"
    );
    Ok(guest)
}
