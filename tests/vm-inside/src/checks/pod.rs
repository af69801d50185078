//! A pod as kubelet asks for it, on the machine's network.

use anyhow::{Result, ensure};

use super::checks;
use crate::cri::{self, Cri};
use crate::ground::{Driver, Ground, IMAGE, nothing_left};
use crate::machine;

checks![a_pod_is_held_without_a_process_and_removed_without_a_trace];

/// The containerd namespace of what CRI makes.
const NAMESPACE: &str = "k8s.io";

fn a_pod_is_held_without_a_process_and_removed_without_a_trace(ground: &Ground, driver: Driver) -> Result<()> {
    let cri = Cri::of(&ground.containerd);
    let name = ground.id(driver, "pod");
    let config = cri::pod(&name, &driver.pods_parent(&name));
    let sandbox = cri.run_sandbox(&config, &format!("wasmedge-{}", driver.name()))?;
    let checked = look(&cri, &sandbox, &config);
    // Removed whatever was seen, so that the next test does not find it.
    cri.remove_sandbox(&sandbox)?;
    let guest = checked?;
    nothing_left(NAMESPACE, &guest)?;
    nothing_left(NAMESPACE, &sandbox)
}

/// Looks at a pod with one guest; the guest's id.
fn look(cri: &Cri<'_>, sandbox: &str, config: &cri::PodConfig) -> Result<String> {
    let guest = cri.run_container(sandbox, config, IMAGE, &["/app.wasm", "sleep", "600"])?;
    let answer = cri.exec(&guest, &["/native", "args", "a b"])?;
    ensure!(answer == ("/native\nargs\na b\n".to_owned(), 0), "exec of a native program ended as {answer:?}");
    let answer = cri.exec(&guest, &["/hello.wasm"])?;
    ensure!(answer == ("hello from wasm\n".to_owned(), 0), "exec of a guest ended as {answer:?}");
    let memory = cri.working_set(&guest)?;
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
