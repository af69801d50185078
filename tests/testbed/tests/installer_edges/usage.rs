//! Containers of a launcher, found through a real containerd with its state folder elsewhere.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use node_installer::containers::{Bundles, RunningWorkloads, Usage, usage};
use node_installer::node_root::NodePath;
use node_installer::smoke::{self, Smoke};
use test_guests::SPIN;

use crate::{HANDLER, NAMESPACE, Node, SMOKE, image_of};

pub(crate) fn containers_of_a_launcher_are_found_without_containerds_state_folder(
    node: &Node,
) -> Result<()> {
    let launcher = node
        .launcher
        .to_str()
        .context("the launcher's path is not UTF-8")?;
    let image = image_of(SPIN);
    let ctr = |args: &[&str]| {
        node.containerd
            .ctr()
            .args(["--namespace", NAMESPACE])
            .args(args)
            .done()
    };
    ctr(&[
        "run",
        "--detach",
        "--null-io",
        "--runtime",
        launcher,
        &image,
        "by-path",
        "/smoke.wasm",
    ])?;
    let endless = Smoke {
        timeout: Duration::from_mins(1),
        ..node.plan(HANDLER, &image)
    };
    // The smoke test is dropped while its guest runs, and leaves the container.
    let running = node.block(async |cri| {
        let listed = async {
            loop {
                let tasks = node
                    .containerd
                    .ctr()
                    .args(["--namespace", NAMESPACE, "tasks", "ls"])
                    .text()?;
                if tasks.matches("RUNNING").count() == 3 {
                    return Ok::<_, anyhow::Error>(cri.running().await?);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            ended = smoke::run(cri,
                &endless) => bail!("an endless guest exited: {ended:?}"),
            running = listed => running,
        }
    })?;
    let settings = running
        .settings
        .as_ref()
        .context("read containerd's settings")?;
    let state = node.containerd.tasks_folder();
    ensure!(
        settings.state.as_deref().map(Path::new) == state.ancestors().nth(2),
        "{settings:?}"
    );
    ensure!(
        settings.launchers.get(HANDLER).map(String::as_str) == Some(launcher),
        "{settings:?}"
    );
    ensure!(
        running
            .pods
            .iter()
            .all(|pod| pod.handler.as_deref() == Some(HANDLER)),
        "{running:?}"
    );
    let used = |running: RunningWorkloads, folder: &Path| -> Result<Vec<String>> {
        let folder = NodePath::new(folder.to_str().context("the path is not UTF-8")?)?;
        match usage(
            Bundles::Hidden("not looked at".to_owned()),
            Ok(running),
            &folder,
        ) {
            Usage::Known(containers) => Ok(containers
                .into_iter()
                .map(|container| container.id)
                .collect()),
            Usage::Unknown(why) => bail!("{why}"),
        }
    };
    let folder = node.launcher.parent().context("a launcher in a folder")?;
    let ids = used(running.clone(), folder)?;
    let pods = running.pods.iter().map(|pod| pod.id.as_str());
    for id in pods.chain(["by-path"]) {
        ensure!(
            ids.iter().filter(|known| *known == id).count() == 1,
            "{id} is not once among {ids:?} of {running:?}"
        );
    }
    let others = used(running, Path::new("/opt/wasmedge-runtime/other"))?;
    ensure!(others.is_empty(), "{others:?} are of another runtime");

    ctr(&["tasks", "delete", "--force", "by-path"])?;
    ctr(&["containers", "delete", "by-path"])?;
    node.block(async |cri| smoke::remove_leftovers(cri, &endless.runtime).await)?;
    let left = node.block(async |cri| cri.running().await)?;
    ensure!(used(left.clone(), folder)?.is_empty(), "{left:?}");
    // The log of the dropped one is removed with the next one's.
    node.smoke(&node.plan(HANDLER, SMOKE))?;
    node.check_clean()
}
