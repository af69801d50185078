//! A pod as kubelet asks for it, on the machine's network.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, bail, ensure};
use cri_calls::Cri;
use cri_calls::config::{self, NamespaceMode, PodConfig};

use super::checks;
use crate::containerd::Containerd;
use crate::ground::{Driver, Ground, IMAGE, nothing_left};
use crate::{machine, wait};

checks![a_pod_is_held_without_a_process_and_removed_without_a_trace, pod_with_users_of_its_own_runs_on_a_handler_with_an_options_file,];

/// The containerd namespace of what CRI makes.
const NAMESPACE: &str = "k8s.io";
/// Seconds that an exec may take: the machine is emulated.
const EXEC: i64 = 30;

fn a_pod_is_held_without_a_process_and_removed_without_a_trace(ground: &Ground, driver: Driver) -> Result<()> {
    let cri = Cri::new(&ground.containerd);
    let name = ground.id(driver, "pod");
    let config = config::pod(&name, NamespaceMode::Node, NamespaceMode::Container, &driver.pods_parent(&name));
    let sandbox = cri.run_sandbox(&config, &format!("wasmedge-{}", driver.name()))?;
    let checked = look(&cri, &sandbox, &config);
    // Removed whatever was seen, so that the next test does not find it.
    cri.remove_sandbox(&sandbox)?;
    let guest = checked?;
    nothing_left(NAMESPACE, &guest)?;
    nothing_left(NAMESPACE, &sandbox)
}

/// What root of a pod with users of its own is on the machine.
const ROOT: u32 = 1 << 20;
/// Where containerd looks for network plugins, and for what tells it to use them.
const PLUGINS: &str = "/opt/cni/bin";
const NETWORKS: &str = "/etc/cni/net.d";
/// A plugin that gives each pod the same address and nothing else.
const PLUGIN: &str = r#"#!/bin/sh
cat >/dev/null
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.3.1","0.4.0","1.0.0"]}' ;;
ADD) echo '{"cniVersion":"1.0.0","interfaces":[{"name":"'"$CNI_IFNAME"'","sandbox":"'"$CNI_NETNS"'"}],"ips":[{"interface":0,"address":"192.0.2.1/24"}]}' ;;
esac
"#;
const NETWORK: &str = r#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"address"}]}"#;

fn pod_with_users_of_its_own_runs_on_a_handler_with_an_options_file(ground: &Ground, driver: Driver) -> Result<()> {
    plug_in()?;
    let cri = Cri::new(&ground.containerd);
    let handler = format!("entry-{}", driver.name());
    let features = cri.features(&handler)?;
    ensure!(features.as_ref().is_some_and(|features| features.user_namespaces), "kubelet is told of {features:?}");
    let name = ground.id(driver, "users");
    let config = config::pod(&name, NamespaceMode::Pod, NamespaceMode::Container, &driver.pods_parent(&name)).with_users_from(ROOT);
    let sandbox = wait::until(
        "containerd to see the network",
        || match cri.run_sandbox(&config, &handler) {
            Err(error) if format!("{error:#}").contains("cni plugin not initialized") => Ok(None),
            made => made.map(Some),
        },
        machine::containerds_words,
    )?;
    let checked = look_at_users(driver, &cri, &sandbox, &config);
    cri.remove_sandbox(&sandbox)?;
    let guest = checked?;
    nothing_left(NAMESPACE, &guest)?;
    nothing_left(NAMESPACE, &sandbox)
}

fn plug_in() -> Result<()> {
    for folder in [PLUGINS, NETWORKS] {
        fs::create_dir_all(folder).with_context(|| format!("make {folder}"))?;
    }
    for name in ["address", "loopback"] {
        let file = format!("{PLUGINS}/{name}");
        fs::write(&file, PLUGIN).with_context(|| format!("write {file}"))?;
        fs::set_permissions(&file, Permissions::from_mode(0o755)).with_context(|| format!("let {file} be run"))?;
    }
    fs::write(format!("{NETWORKS}/10-pods.conflist"), NETWORK).context("write the network")
}

/// Looks at a pod with users of its own and at its guest: whose they are, and that the options file says who sets up its
/// cgroup; the guest's id.
fn look_at_users(driver: Driver, cri: &Cri<'_, Containerd>, sandbox: &str, config: &PodConfig) -> Result<String> {
    let guest = cri.create_container(sandbox, config, config.container("guest", IMAGE, &["/app.wasm", "sleep", "600"]))?;
    cri.start_container(&guest)?;
    let cgroups = machine::cgroups_naming(&guest);
    let [cgroup] = &cgroups[..] else { bail!("cgroups of the guest: {cgroups:?}") };
    let processes = fs::read_to_string(cgroup.join("cgroup.procs")).context("read which processes the guest has")?;
    let pid = processes.lines().next().context("the guest has no process")?;
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).context("read whose the guest is")?;
    ensure!(map.split_whitespace().eq(format!("0 {ROOT} 65536").split(' ')), "users of the guest: {map}");
    let answer = cri.exec_sync(&guest, &["/hello.wasm"], EXEC)?;
    ensure!(answer.exit_code == 0 && answer.text() == "hello from wasm\n", "exec ended as {answer:?}");
    let scopes = machine::units(&format!("*{guest}*"))?;
    ensure!((driver == Driver::Systemd) != scopes.is_empty(), "with {}, systemd has the units {scopes:?}", driver.name());
    Ok(guest)
}

/// Looks at a pod with one guest; the guest's id.
fn look(cri: &Cri<'_, Containerd>, sandbox: &str, config: &PodConfig) -> Result<String> {
    let guest = cri.create_container(sandbox, config, config.container("guest", IMAGE, &["/app.wasm", "sleep", "600"]))?;
    cri.start_container(&guest)?;
    for (words, said) in [(&["/native", "args", "a b"][..], "/native\nargs\na b\n"), (&["/hello.wasm"], "hello from wasm\n")] {
        let answer = cri.exec_sync(&guest, words, EXEC)?;
        ensure!(answer.exit_code == 0 && answer.text() == said, "exec of {words:?} ended as {answer:?}");
    }
    let memory = cri.stats(&guest)?.memory();
    ensure!((1 << 16..1 << 30).contains(&memory), "it uses {memory} bytes");
    // The image of pods' first containers holds a name and no program: one that were started would have failed above.
    for id in [sandbox, &guest] {
        let cgroups = machine::cgroups_naming(id);
        ensure!(!cgroups.is_empty(), "no cgroup bears the id {id}");
    }
    let processes = machine::processes()?;
    let named: Vec<_> = processes.iter().filter(|seen| seen.command.split(' ').any(|word| word == sandbox)).collect();
    ensure!(named.iter().all(|seen| seen.command.contains("wasmedge-host")), "processes of the sandbox: {named:?}");
    Ok(guest)
}
