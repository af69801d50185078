//! Containers of Wasm artifacts. `ctr` makes none: it wants the configuration of a Linux image. CRI
//! does, from the pod alone; the program `create-container` makes one as CRI does, and `ctr` then
//! runs it.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{Containerd, Runtime};
use crate::command::Run;

/// The program, which cargo builds into the folder that it builds us into.
const PROGRAM: &str = "create-container";

/// Makes the container `id` of the artifact `image`, with an empty root that is its own.
pub(super) fn create(
    containerd: &Containerd,
    image: &str,
    id: &str,
    runtime: Runtime,
    args: &[String],
) -> Result<()> {
    containerd.ctr().args(["snapshots", "prepare", id]).done()?;
    let default = containerd.ctr().args(["oci", "spec"]).text()?;
    let spec: Value = serde_json::from_str(&default).context("read containerd's default spec")?;
    let spec = spec_for(spec, &format!("/{}/{id}", containerd.namespace()), args);
    // The socket lies on a file system that only the namespace has; the kernel shows it under the
    // namespace's first process.
    let socket = format!(
        "/proc/{}/root{}",
        containerd.isolated().init_pid(),
        containerd.address().display()
    );
    let run = Run::new(program()?).args([
        "--address",
        &socket,
        "--namespace",
        containerd.namespace(),
        "--runtime",
        runtime.name(),
        image,
        id,
    ]);
    run.input(serde_json::to_vec(&spec).context("write the spec")?)
        .done()
}

/// Beside this executable, or beside the folder `deps` in which test programs lie.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find out where this program lies")?;
    let Some(found) = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(PROGRAM))
        .find(|file| file.is_file())
    else {
        bail!(
            "{PROGRAM} is not built beside {}: run `cargo build --package {PROGRAM}`",
            own.display()
        );
    };
    Ok(found)
}

/// The default spec with what a pod's container says.
fn spec_for(mut spec: Value, cgroup: &str, args: &[String]) -> Value {
    spec["process"]["args"] = json!(args);
    spec["linux"]["cgroupsPath"] = json!(cgroup);
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spec_keeps_what_the_default_says() {
        let spec = spec_for(
            json!({"process": {"cwd": "/"}, "linux": {"cgroupsPath": "/default"}}),
            "/ns/id",
            &["a".to_owned()],
        );
        assert_eq!(
            spec,
            json!({"process": {"cwd": "/", "args": ["a"]}, "linux": {"cgroupsPath": "/ns/id"}})
        );
    }
}
