//! The fixture of the tests: containers with the cgroups of one driver, and checks of their
//! clean-up.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::containerd::{Containerd, NAMESPACE};
use crate::{machine, wait};

/// The runtime type.
pub(crate) const RUNTIME: &str = "io.containerd.wasmedge.v1";
/// The image with all guests and the Linux program.
pub(crate) const IMAGE: &str = "registry.test/mixed:1";
/// The same files, unpacked.
const ROOT: &str = "/parts/root";
/// The folder that containers write to.
const FOLDER: &str = "/var/lib/vm-inside";
/// The folder of the host's records of containers.
const RECORDS: &str = "/run/containerd/wasmedge";

/// The cgroup driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    /// The runtime itself sets up cgroups.
    Cgroupfs,
    /// systemd sets up cgroups as scopes.
    Systemd,
}

impl Driver {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }

    /// Returns the runtime's options.
    fn options(self) -> &'static str {
        match self {
            Self::Cgroupfs => "SystemdCgroup = false\n",
            Self::Systemd => "SystemdCgroup = true\n",
        }
    }

    /// Writes a file with the runtime's options for `ctr`, and returns its path.
    pub(crate) fn options_file(self) -> Result<String> {
        let file = format!("{FOLDER}/{}.toml", self.name());
        fs::write(&file, self.options()).with_context(|| format!("write {file}"))?;
        Ok(file)
    }

    /// Returns `linux.cgroupsPath` of a container.
    pub(crate) fn cgroups_path(self, id: &str) -> String {
        match self {
            Self::Cgroupfs => format!("/vm/{id}"),
            Self::Systemd => format!("vm.slice:wasm:{id}"),
        }
    }

    /// Returns the folder of its cgroup.
    pub(crate) fn cgroup(self, id: &str) -> PathBuf {
        let below = match self {
            Self::Cgroupfs => format!("vm/{id}"),
            Self::Systemd => format!("vm.slice/wasm-{id}.scope"),
        };
        Path::new(machine::CGROUPS).join(below)
    }

    /// Returns the cgroup of a pod by kubelet's name.
    pub(crate) fn pods_parent(self, pod: &str) -> String {
        match self {
            Self::Cgroupfs => format!("/vmpods/{pod}"),
            Self::Systemd => format!("vmpods-{pod}.slice"),
        }
    }
}

/// One containerd with the tests' images and default spec.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) containerd: Containerd,
    spec: Value,
    count: AtomicU32,
}

impl Fixture {
    /// Waits for containerd and imports the images.
    pub(crate) fn prepare() -> Result<Self> {
        ensure!(
            Path::new(machine::CGROUPS)
                .join("cgroup.controllers")
                .exists(),
            "{} is not cgroup v2",
            machine::CGROUPS
        );
        fs::create_dir_all(FOLDER).with_context(|| format!("make {FOLDER}"))?;
        let containerd = Containerd::connect()?;
        for (namespace, image) in [
            (NAMESPACE, "mixed"),
            ("k8s.io", "mixed"),
            ("k8s.io", "pause"),
        ] {
            ctr(&[
                "--namespace",
                namespace,
                "images",
                "import",
                "--local",
                &format!("/parts/images/{image}.tar"),
            ])?;
        }
        let spec = serde_json::from_str(&ctr(&["oci", "spec"])?)
            .context("read containerd's default spec")?;
        Ok(Self {
            containerd,
            spec,
            count: AtomicU32::new(0),
        })
    }

    /// Returns a unique container id.
    pub(crate) fn id(&self, driver: Driver, what: &str) -> String {
        format!(
            "{what}{}{}",
            driver.name(),
            self.count.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// Starts a container of this command line.
    pub(crate) fn run(&self, driver: Driver, args: &[&str]) -> Result<Container<'_>> {
        self.run_limited(driver, args, &json!({}))
    }

    /// As [`Fixture::run`], with additions to OCI's `linux.resources`.
    pub(crate) fn run_limited(
        &self,
        driver: Driver,
        args: &[&str],
        resources: &Value,
    ) -> Result<Container<'_>> {
        let resources = resources.as_object().context("resources are not a table")?;
        self.run_changed(driver, args, |spec| {
            for (key, value) in resources {
                spec["linux"]["resources"][key] = value.clone();
            }
        })
    }

    /// The same, with a spec that `change` has changed.
    pub(crate) fn run_changed(
        &self,
        driver: Driver,
        args: &[&str],
        change: impl FnOnce(&mut Value),
    ) -> Result<Container<'_>> {
        let id = self.id(driver, "c");
        let mut spec = self.spec.clone();
        spec["process"]["args"] = json!(args);
        spec["process"]["terminal"] = json!(false);
        spec["linux"]["cgroupsPath"] = json!(driver.cgroups_path(&id));
        change(&mut spec);
        let container = Container {
            fixture: self,
            driver,
            output: format!("{FOLDER}/{id}.out"),
            process: spec["process"].clone(),
            id,
        };
        container.start(&spec)?;
        Ok(container)
    }
}

/// Waits until nothing is left of a container.
pub(crate) fn nothing_left(namespace: &str, id: &str) -> Result<()> {
    let left = || {
        resources_of(namespace, id)
            .map_or_else(|error| format!("{error:#}"), |left| left.join("\n"))
    };
    wait::until(
        format_args!("nothing of {id} to be left"),
        || Ok(resources_of(namespace, id)?.is_empty().then_some(())),
        left,
    )
}

/// Returns the resources of a container: cgroups, units, mounts, its record and its bundle.
fn resources_of(namespace: &str, id: &str) -> Result<Vec<String>> {
    let mut left: Vec<String> = machine::cgroups_naming(id)
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    left.extend(machine::units(&format!("*{id}*"))?);
    left.extend(machine::mounts_naming(id)?);
    // Records are in one folder for each containerd.
    let records = fs::read_dir(RECORDS)
        .into_iter()
        .flatten()
        .flatten()
        .map(|containerd| containerd.path().join(namespace).join(id));
    let bundle = Path::new("/run/containerd/io.containerd.runtime.v2.task")
        .join(namespace)
        .join(id);
    left.extend(
        records
            .chain([bundle])
            .filter(|path| path.exists())
            .map(|path| path.display().to_string()),
    );
    Ok(left)
}

/// Runs `ctr` to completion and returns its output.
pub(crate) fn ctr(args: &[&str]) -> Result<String> {
    machine::output("/parts/bin/ctr", args)
}

/// A started container. Its leftovers are removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Container<'a> {
    fixture: &'a Fixture,
    driver: Driver,
    pub(crate) id: String,
    output: String,
    process: Value,
}

impl Container<'_> {
    fn start(&self, spec: &Value) -> Result<()> {
        let containerd = &self.fixture.containerd;
        containerd.make(&self.id, RUNTIME, self.driver.options(), spec)?;
        let own = format!("{FOLDER}/{}", self.id);
        let folders = ["upper", "work"].map(|name| format!("{own}/{name}"));
        for folder in &folders {
            fs::create_dir_all(folder).with_context(|| format!("make {folder}"))?;
        }
        let overlay = vec![
            format!("lowerdir={ROOT}"),
            format!("upperdir={}", folders[0]),
            format!("workdir={}", folders[1]),
        ];
        containerd.create(&self.id, overlay, &self.output)?;
        containerd.start(&self.id, "")
    }

    /// Returns its output so far.
    pub(crate) fn text(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Waits until it has printed `text`.
    pub(crate) fn until_it_prints(&self, text: &str) -> Result<()> {
        let there = || Ok(self.text().contains(text).then_some(()));
        wait::until(format_args!("{} to print {text:?}", self.id), there, || {
            self.text()
        })
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.fixture
            .containerd
            .state(&self.id, "")
            .map(|state| state.pid)
    }

    /// Reads a file of its cgroup.
    pub(crate) fn cgroup(&self, file: &str) -> Result<String> {
        let path = self.driver.cgroup(&self.id).join(file);
        fs::read_to_string(&path)
            .map(|text| text.trim().to_owned())
            .with_context(|| format!("read {}", path.display()))
    }

    /// Waits for its exit, and returns its exit code.
    pub(crate) fn wait(&self) -> Result<u32> {
        self.fixture.containerd.wait(&self.id, "")
    }

    /// Adds the process `exec` with this command line, and starts it.
    pub(crate) fn exec(&self, exec: &str, args: &[&str]) -> Result<()> {
        let mut process = self.process.clone();
        process["args"] = json!(args);
        self.fixture
            .containerd
            .exec(&self.id, exec, &process, &self.output_of(exec))?;
        self.fixture.containerd.start(&self.id, exec)
    }

    /// Returns the output file of a further process.
    fn output_of(&self, exec: &str) -> String {
        format!("{FOLDER}/{}-{exec}.out", self.id)
    }

    /// Waits for the exit of a further process; returns its output and exit code.
    pub(crate) fn end_of(&self, exec: &str) -> Result<(String, u32)> {
        let code = self.fixture.containerd.wait(&self.id, exec)?;
        self.fixture.containerd.delete_exec(&self.id, exec)?;
        Ok((
            fs::read_to_string(self.output_of(exec)).unwrap_or_default(),
            code,
        ))
    }

    /// Kills it with a signal, waits for its exit, and deletes its task; returns its exit code.
    pub(crate) fn end(&self, signal: u32) -> Result<u32> {
        self.fixture.containerd.kill(&self.id, signal)?;
        self.wait()?;
        self.delete()
    }

    /// Deletes the ended task, and returns its exit code.
    pub(crate) fn delete(&self) -> Result<u32> {
        self.fixture.containerd.delete(&self.id)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // After a failure these calls remove the leftovers; otherwise there is no task, and they
        // fail harmlessly.
        let containerd = &self.fixture.containerd;
        if containerd.state(&self.id, "").is_ok() {
            let _ = containerd
                .kill(&self.id, 9)
                .and_then(|()| containerd.wait(&self.id, ""))
                .and_then(|_| containerd.delete(&self.id));
        }
        let _ = containerd.remove(&self.id);
    }
}
