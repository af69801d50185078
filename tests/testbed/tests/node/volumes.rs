//! Volumes of pods.

use anyhow::{Context as _, Result, ensure};

use crate::node::{Node, Verdict, tests};
use crate::pods_fixture::IMAGE;

tests![recursively_read_only_volume_is_read_only_below_its_mounts];

fn recursively_read_only_volume_is_read_only_below_its_mounts(node: &Node) -> Result<Verdict> {
    let version = &node.containerd.install().version;
    if version.starts_with("1.") {
        return Ok(Verdict::Skipped(format!(
            "containerd {version} does not support recursively read-only volumes"
        )));
    }
    let pods = node.pods()?;
    let pod = pods.pod(pods.default_config())?;
    let volume = node.folder()?;
    let below = volume.join("below");
    std::fs::create_dir(&below).with_context(|| format!("make {}", below.display()))?;
    pods.isolated.mount_memory(&below)?;
    let volume = volume.display().to_string();
    let read_only = |name: &str, args: &[&str]| {
        pod.run_container(
            pod.config
                .container(name, IMAGE, args)
                .with_volume_read_only_recursively(&volume, "/volume"),
        )
    };
    let write = ["/app.wasm", "write", "/volume/below/x", "x"];
    let writable = pod
        .config
        .container("writable", IMAGE, &["/app.wasm", "sleep", "600"])
        .with_volume(&pod.config, &volume, "/volume");
    let executed = pods
        .cri()
        .exec_sync(&pod.run_container(writable)?, &write, 10)?;
    ensure!(
        executed.exit_code == 0,
        "a guest cannot write where it may: {executed:?}"
    );
    let executed = pods.cri().exec_sync(
        &read_only("guest", &["/app.wasm", "sleep", "600"])?,
        &write,
        10,
    )?;
    ensure!(
        executed.exit_code != 0,
        "a guest writes below a mount of a volume that is read-only recursively"
    );
    let mounts = ["/native", "read", "/proc/self/mountinfo"];
    let mounts = pods
        .cri()
        .exec_sync(&read_only("native", &["/native", "sleep"])?, &mounts, 10)?
        .text();
    for place in ["/volume", "/volume/below"] {
        let found = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|line| line.get(4) == Some(&place));
        let is_read_only = found
            .and_then(|line| line.get(5).copied())
            .is_some_and(|options| options.split(',').any(|word| word == "ro"));
        ensure!(
            is_read_only,
            "a native container has {place} writable:\n{mounts}"
        );
    }
    pod.remove()?;
    Ok(Verdict::Holds)
}
