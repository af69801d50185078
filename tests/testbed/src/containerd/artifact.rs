//! Containers of Wasm artifacts. `ctr` cannot create one: it needs the configuration of a Linux
//! image. CRI creates one from the pod alone. The program `create-container` does so as CRI does,
//! and `ctr` then runs the container.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{Containerd, Runtime};
use crate::command::Run;

/// The program's name; cargo builds it into the folder of this executable.
const PROGRAM: &str = "create-container";

/// Creates the container `id` of the artifact `image`, with an empty root of its own.
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
    // The socket is on a file system of the namespace; the kernel shows it under the namespace's
    // first process.
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

/// Finds the program beside this executable, or beside the folder `deps` of test programs.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find the path of this program")?;
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

/// Returns the default spec with the additions of a pod's container.
fn spec_for(mut spec: Value, cgroup: &str, args: &[String]) -> Value {
    spec["process"]["args"] = json!(args);
    spec["linux"]["cgroupsPath"] = json!(cgroup);
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spec_keeps_the_defaults() {
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
