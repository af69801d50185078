//! Pods with a user namespace (`hostUsers: false`): their root is an unprivileged user on the node.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, anyhow, ensure};
use cri_client::message::{ContainerState, SandboxState};
use testbed::wait;

use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, tests};
use crate::pods_fixture::{IMAGE, Pod, Pods};

tests![
    root_of_a_pod_with_its_own_users_is_unprivileged_on_the_node,
    files_of_a_pod_with_its_own_users_belong_to_them,
    a_pod_with_its_own_users_has_its_own_name_and_network,
    a_linux_program_of_a_pod_with_its_own_users_is_refused,
    pod_with_its_own_users_ends_with_its_removal_or_its_host,
];

/// The node's user id of the pods' root.
const MAPPED_ROOT: u32 = 1 << 20;

/// Runs `body` on this containerd's pods, unless it does not support user namespaces.
fn with_pods(node: &Node, body: impl FnOnce(&Pods) -> Result<()>) -> Result<Verdict> {
    let version = &node.containerd.install().version;
    if version.starts_with("1.") {
        return Ok(Verdict::Skipped(format!(
            "containerd {version} does not support user namespaces"
        )));
    }
    body(&*node.pods()?)?;
    Ok(Verdict::Holds)
}

fn pod(pods: &Pods) -> Result<Pod<'_>> {
    pods.pod(pods.default_config().with_users_from(MAPPED_ROOT))
}

fn root_of_a_pod_with_its_own_users_is_unprivileged_on_the_node(node: &Node) -> Result<Verdict> {
    with_pods(node, |pods| {
        let (machine, cri) = (pods.machine(), pods.cri());
        let pod = pod(pods)?;
        let guest = pod.run("guest", &["/app.wasm", "sleep", "600"])?;
        let map = format!("0 {MAPPED_ROOT} 65536");
        let host = machine.host()?;
        for id in [&pod.id, &guest] {
            let pid = pod.pid(id)?;
            ensure!(
                machine.parent_of(pid)? == host,
                "{pid} is not a child of the host"
            );
            for file in ["uid_map", "gid_map"] {
                let text = machine.read(pid, file)?;
                ensure!(
                    text.split_whitespace().eq(map.split(' ')),
                    "{file} of {id}: {text}"
                );
            }
            for field in ["Uid", "Gid"] {
                ensure!(
                    machine.status(pid, field)? == u64::from(MAPPED_ROOT),
                    "{field} of {id}: {}",
                    machine.read(pid, "status")?
                );
            }
            ensure!(
                machine.namespace_of(pid, "user")? != machine.namespace_of(1, "user")?,
                "{id} has the node's users"
            );
        }
        let held = machine.descriptors(pod.pid(&pod.id)?)?;
        ensure!(
            held.iter().all(|(_, name)| name == "/dev/null"),
            "the pod's process has more open than it needs: {held:?}"
        );
        for args in [&["/app.wasm", "args", "a"][..], &["/native", "args", "a"]] {
            let executed = cri.exec_sync(&guest, args, 5)?;
            ensure!(
                executed.exit_code == 0 && executed.text().ends_with("args\na\n"),
                "{args:?}: {executed:?}"
            );
        }
        pod.remove()
    })
}

fn files_of_a_pod_with_its_own_users_belong_to_them(node: &Node) -> Result<Verdict> {
    with_pods(node, |pods| {
        let (machine, cri) = (pods.machine(), pods.cri());
        let pod = pod(pods)?;
        let volume = node.folder()?;
        let inside = volume.display().to_string();
        fs::write(volume.join("given"), "given").context("write into the volume")?;
        fs::set_permissions(
            volume.join("given"),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .context("close the file")?;
        let guest = pod
            .config
            .container("guest", IMAGE, &["/app.wasm", "sleep", "600"]);
        let guest = pod.run_container(guest.with_volume(&pod.config, &inside, "/made/volume"))?;
        let pid = pod.pid(&guest)?;
        let run = |args: &[&str], text: &str| {
            let executed = cri.exec_sync(&guest, args, 5)?;
            ensure!(
                executed.exit_code == 0 && executed.text() == text,
                "{args:?}: {executed:?}"
            );
            Ok(())
        };
        run(&["/app.wasm", "read", "/made/volume/given"], "given")?;
        run(&["/native", "read", "/made/volume/given"], "given")?;
        run(&["/app.wasm", "write", "/made/volume/taken", "x"], "")?;
        run(&["/app.wasm", "write", "/data/x", "x"], "")?;
        // The image's files belong to root in the container, and a volume's files to root on the
        // node.
        let owner = |file: &std::path::Path| {
            fs::metadata(file)
                .map(|data| (data.uid(), data.gid()))
                .with_context(|| file.display().to_string())
        };
        ensure!(
            owner(&volume.join("taken"))? == (0, 0),
            "in the volume: {:?}",
            owner(&volume.join("taken"))?
        );
        for file in [
            "data/x",
            "app.wasm",
            "made",
            "made/volume",
            "made/volume/given",
            "dev",
            "dev/null",
        ] {
            let found = owner(&machine.of(pid, &format!("root/{file}")))?;
            ensure!(
                found == (MAPPED_ROOT, MAPPED_ROOT),
                "/{file} belongs to {found:?} on the node"
            );
        }
        // The same applies to other users than root.
        fs::set_permissions(&volume, std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .context("open the volume")?;
        let other = pod
            .config
            .container(
                "other",
                IMAGE,
                &["/app.wasm", "write", "/made/volume/others", "x"],
            )
            .run_as(1000);
        pod.run_container(other.with_volume(&pod.config, &inside, "/made/volume"))?;
        let written = || Ok(volume.join("others").exists().then_some(()));
        wait::until("another user's file", SETTLE_TIMEOUT, written, || {
            format!("{:?}", fs::read_dir(&volume).map(Iterator::count))
        })?;
        ensure!(
            owner(&volume.join("others"))?.0 == 1000,
            "of another user: {:?}",
            owner(&volume.join("others"))?
        );
        pod.remove()
    })
}

fn a_pod_with_its_own_users_has_its_own_name_and_network(node: &Node) -> Result<Verdict> {
    with_pods(node, |pods| {
        let (machine, cri) = (pods.machine(), pods.cri());
        let config = pods.default_config().with_users_from(MAPPED_ROOT);
        let config = config
            .sysctl("net.ipv4.ip_unprivileged_port_start", "80")
            .sysctl("kernel.msgmax", "9999");
        let pod = pods.pod(config)?;
        let (guest, other) = (
            pod.run("guest", &["/app.wasm", "accept", "80"])?,
            pod.run("other", &["/app.wasm", "sleep", "600"])?,
        );
        for kind in ["user", "net", "ipc", "uts"] {
            let of = |id: &str| machine.namespace_of(pod.pid(id)?, kind);
            let shared = of(&pod.id)?;
            ensure!(
                of(&guest)? == shared && of(&other)? == shared,
                "{kind} is not the pod's"
            );
            ensure!(
                shared != machine.namespace_of(1, kind)?,
                "{kind} is the node's"
            );
        }
        let seen = |file: &str| {
            let namespaces = machine.of(pod.pid(&pod.id)?, "ns");
            let enter = ["net", "ipc", "uts"]
                .map(|kind| format!("--{kind}={}", namespaces.join(kind).display()));
            let output = std::process::Command::new("nsenter")
                .args(enter)
                .args(["cat", file])
                .output()
                .context("run nsenter")?;
            Ok::<_, anyhow::Error>(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        for (file, text) in [
            ("/proc/sys/kernel/hostname", pod.config.name()),
            ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "80"),
            ("/proc/sys/kernel/msgmax", "9999"),
        ] {
            ensure!(seen(file)? == text, "{file}: {}", seen(file)?);
        }
        let listens = || {
            Ok(machine
                .read(pod.pid(&pod.id)?, "net/tcp")?
                .contains(":0050")
                .then_some(()))
        };
        wait::until(
            "the guest to listen on port 80",
            SETTLE_TIMEOUT,
            listens,
            || format!("{:?}", cri.container(&guest)),
        )?;
        pod.remove()
    })
}

fn a_linux_program_of_a_pod_with_its_own_users_is_refused(node: &Node) -> Result<Verdict> {
    with_pods(node, |pods| {
        let pod = pod(pods)?;
        let refused = pod
            .run("sidecar", &["/native", "tick"])
            .map_or_else(|error| format!("{error:#}"), |id| format!("{id} runs"));
        ensure!(refused.contains("hostUsers"), "{refused}");
        pod.remove()
    })
}

fn pod_with_its_own_users_ends_with_its_removal_or_its_host(node: &Node) -> Result<Verdict> {
    if node.containerd.install().version.starts_with("1.") {
        return with_pods(node, |_| Ok(()));
    }
    let pods = Pods::start(node.containerd.install(), &node.prepared)?;
    let gone = || -> Result<()> {
        let machine = pods.machine();
        let removed = pod(&pods)?;
        let (id, guest) = (
            removed.id.clone(),
            removed.run("guest", &["/app.wasm", "spin"])?,
        );
        let running = [removed.pid(&id)?, removed.pid(&guest)?];
        removed.remove()?;
        let left = pod(&pods)?;
        pods.containerd.restart()?;
        ensure!(
            pods.cri().sandbox(&left.id)?.state() == SandboxState::Ready,
            "a restart of containerd ended the pod"
        );
        let (left_id, left_guest) = (left.id.clone(), left.run("guest", &["/app.wasm", "spin"])?);
        let killed = [left.pid(&left_id)?, left.pid(&left_guest)?];
        machine.kill(machine.host()?)?;
        for pid in running.into_iter().chain(killed) {
            machine.wait_until_dead(pid)?;
        }
        let not_ready =
            || Ok((pods.cri().sandbox(&left_id)?.state() == SandboxState::NotReady).then_some(()));
        wait::until("the pod to be not ready", SETTLE_TIMEOUT, not_ready, || {
            format!("{:?}", pods.cri().sandbox(&left_id))
        })?;
        let exited = || {
            Ok(
                (pods.cri().container(&left_guest)?.state() == ContainerState::Exited)
                    .then_some(()),
            )
        };
        wait::until("the guest to have exited", SETTLE_TIMEOUT, exited, || {
            format!("{:?}", pods.cri().container(&left_guest))
        })?;
        left.remove()?;
        // The host detects the loss of a pod's process without a request from outside.
        let ended = pod(&pods)?;
        machine.kill(ended.pid(&ended.id)?)?;
        let not_ready =
            || Ok((pods.cri().sandbox(&ended.id)?.state() == SandboxState::NotReady).then_some(()));
        wait::until(
            "the pod without its process to be not ready",
            SETTLE_TIMEOUT,
            not_ready,
            || format!("{:?}", pods.cri().sandbox(&ended.id)),
        )?;
        let ended_id = ended.id.clone();
        ended.remove()?;
        for id in [&id, &guest, &left_id, &left_guest, &ended_id] {
            machine.nothing_left(id)?;
        }
        Ok(())
    };
    gone().map_err(|error| anyhow!("{error:#}\nalone, {}", pods.containerd.evidence()))?;
    pods.finish()
}
