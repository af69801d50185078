//! A pod as kubelet creates it, on the machine's network.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, bail, ensure};
use cri_client::blocking::Cri;
use cri_client::config::{self, NamespaceMode, PodConfig};

use super::checks;
use crate::containerd::Containerd;
use crate::fixture::{Driver, Fixture, IMAGE, nothing_left};
use crate::{machine, wait};

checks![
    pod_has_no_process_and_is_removed_completely,
    debugging_container_joins_the_pid_namespace_of_any_container,
    pod_with_a_user_namespace_runs_on_a_handler_with_an_options_file,
];

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

fn debugging_container_joins_the_pid_namespace_of_any_container(
    fixture: &Fixture,
    driver: Driver,
) -> Result<()> {
    let cri = Cri::new(&fixture.containerd);
    let name = fixture.id(driver, "debugged");
    let config = config::pod(
        &name,
        NamespaceMode::Node,
        NamespaceMode::Container,
        &driver.pods_parent(&name),
    );
    let sandbox = cri.run_sandbox(&config, &format!("wasmedge-{}", driver.name()))?;
    let checked = debug(&cri, &sandbox, &config);
    cri.remove_sandbox(&sandbox)?;
    checked
}

fn debug(cri: &Cri<'_, Containerd>, sandbox: &str, config: &PodConfig) -> Result<()> {
    let run = |container| {
        let id = cri.create_container(sandbox, config, container)?;
        cri.start_container(&id)?;
        anyhow::Ok(id)
    };
    let native = |id: &str, words: &[&str]| {
        cri.exec_sync(id, &[&["/native"], words].concat(), EXEC_TIMEOUT_SECONDS)
    };
    for (kind, words) in [
        ("guest", &["/app.wasm", "sleep", "600"][..]),
        ("native", &["/native", "tick"]),
    ] {
        let target = run(config.container(&format!("{kind}-target"), IMAGE, words))?;
        let debugger = |what: &str| {
            config
                .container(&format!("{kind}-{what}"), IMAGE, &["/native", "tick"])
                .among_processes_of(&target)
        };
        let plain = run(debugger("plain"))?;
        let able = run(debugger("able").with_capability("SYS_PTRACE"))?;
        let seen = native(&plain, &["processes"])?;
        ensure!(
            seen.text().lines().any(|line| line == "1"),
            "{kind}: the first process is not seen: {seen:?}"
        );
        let limit = native(&plain, &["read", "/sys/fs/cgroup/memory.max"])?;
        ensure!(
            limit.exit_code == 0,
            "{kind}: the debugger cannot read its own cgroup: {limit:?}"
        );
        let raised = native(&plain, &["write", "/sys/fs/cgroup/memory.max", "max"])?;
        ensure!(
            raised.exit_code == 1,
            "{kind}: the debugger can write to its own cgroup"
        );
        let listed = native(&able, &["list", "/proc/1/root/"])?;
        ensure!(
            listed.exit_code == 0 && listed.text().contains("app.wasm"),
            "{kind}: with the capability: {listed:?}"
        );
        // A native target has the same capabilities as the debugger, which then needs no further
        // one.
        if kind == "guest" {
            let refused = native(&plain, &["list", "/proc/1/root/"])?;
            ensure!(
                refused.exit_code == 1,
                "the root is listed without the capability: {:?}",
                refused.text()
            );
        }
    }
    Ok(())
}

/// The machine's id of the pod's root user.
const ROOT: u32 = 1 << 20;
/// Where containerd looks for network plugins, and for the networks that use them.
const PLUGINS: &str = "/opt/cni/bin";
const NETWORKS: &str = "/etc/cni/net.d";
/// A plugin that gives each pod the same address and nothing else.
const PLUGIN: &str = r#"#!/bin/sh
cat >/dev/null
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.3.1","0.4.0","1.0.0"]}' ;;
ADD) cat <<END ;;
{
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "$CNI_IFNAME", "sandbox": "$CNI_NETNS"}],
    "ips": [{"interface": 0, "address": "192.0.2.1/24"}]
}
END
esac
"#;
const NETWORK: &str = r#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"address"}]}"#;

fn pod_with_a_user_namespace_runs_on_a_handler_with_an_options_file(
    fixture: &Fixture,
    driver: Driver,
) -> Result<()> {
    add_network()?;
    let cri = Cri::new(&fixture.containerd);
    let handler = format!("file-{}", driver.name());
    let features = cri.features(&handler)?;
    ensure!(
        features
            .as_ref()
            .is_some_and(|features| features.user_namespaces),
        "the features of {handler} are {features:?}"
    );
    let name = fixture.id(driver, "users");
    let config = config::pod(
        &name,
        NamespaceMode::Pod,
        NamespaceMode::Container,
        &driver.pods_parent(&name),
    )
    .with_users_from(ROOT);
    let sandbox = wait::until(
        "containerd to read the network's configuration",
        || match cri.run_sandbox(&config, &handler) {
            Err(error) if format!("{error:#}").contains("cni plugin not initialized") => Ok(None),
            made => made.map(Some),
        },
        machine::containerd_log,
    )?;
    let checked = look_at_users(driver, &cri, &sandbox, &config);
    cri.remove_sandbox(&sandbox)?;
    let guest = checked?;
    nothing_left(NAMESPACE, &guest)?;
    nothing_left(NAMESPACE, &sandbox)
}

fn add_network() -> Result<()> {
    for folder in [PLUGINS, NETWORKS] {
        fs::create_dir_all(folder).with_context(|| format!("make {folder}"))?;
    }
    for name in ["address", "loopback"] {
        let file = format!("{PLUGINS}/{name}");
        fs::write(&file, PLUGIN).with_context(|| format!("write {file}"))?;
        fs::set_permissions(&file, Permissions::from_mode(0o755))
            .with_context(|| format!("set the mode of {file}"))?;
    }
    fs::write(format!("{NETWORKS}/10-pods.conflist"), NETWORK).context("write the network")
}

/// Runs a guest in a pod with a user namespace. Checks the guest's user ids, and that the options
/// file decides its cgroup driver. Returns the guest's id.
fn look_at_users(
    driver: Driver,
    cri: &Cri<'_, Containerd>,
    sandbox: &str,
    config: &PodConfig,
) -> Result<String> {
    let guest = cri.create_container(
        sandbox,
        config,
        config.container("guest", IMAGE, &["/app.wasm", "sleep", "600"]),
    )?;
    cri.start_container(&guest)?;
    let cgroups = machine::cgroups_naming(&guest);
    let [cgroup] = &cgroups[..] else {
        bail!("cgroups of the guest: {cgroups:?}")
    };
    let processes =
        fs::read_to_string(cgroup.join("cgroup.procs")).context("list the guest's processes")?;
    let pid = processes
        .lines()
        .next()
        .context("the guest has no process")?;
    let map =
        fs::read_to_string(format!("/proc/{pid}/uid_map")).context("read the guest's users")?;
    ensure!(
        map.split_whitespace()
            .eq(format!("0 {ROOT} 65536").split(' ')),
        "users of the guest: {map}"
    );
    let answer = cri.exec_sync(&guest, &["/hello.wasm"], EXEC_TIMEOUT_SECONDS)?;
    ensure!(
        answer.exit_code == 0 && answer.text() == "hello from wasm\n",
        "exec ended as {answer:?}"
    );
    let scopes = machine::units(&format!("*{guest}*"))?;
    ensure!(
        (driver == Driver::Systemd) != scopes.is_empty(),
        "with {}, systemd has the units {scopes:?}",
        driver.name()
    );
    Ok(guest)
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
