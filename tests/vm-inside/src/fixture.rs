//! What the tests stand on: containers whose cgroups one driver sets up, and how to see that
//! nothing is left of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::containerd::{Containerd, NAMESPACE};
use crate::{machine, wait};

/// The runtime, as containerd finds it.
pub(crate) const RUNTIME: &str = "io.containerd.wasmedge.v1";
/// The image with all guests and the Linux program.
pub(crate) const IMAGE: &str = "registry.test/mixed:1";
/// The same files, unpacked.
const ROOT: &str = "/parts/root";
/// Where containers write.
const FOLDER: &str = "/var/lib/vm-inside";
/// Where the host's containers have their records.
const RECORDS: &str = "/run/containerd/wasmedge";

/// Who sets up cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    /// The runtime itself.
    Cgroupfs,
    /// systemd, as scopes.
    Systemd,
}

impl Driver {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }

    /// The runtime's options.
    fn options(self) -> &'static str {
        match self {
            Self::Cgroupfs => "SystemdCgroup = false\n",
            Self::Systemd => "SystemdCgroup = true\n",
        }
    }

    /// A file with the runtime's options, for `ctr`.
    pub(crate) fn options_file(self) -> Result<String> {
        let file = format!("{FOLDER}/{}.toml", self.name());
        fs::write(&file, self.options()).with_context(|| format!("write {file}"))?;
        Ok(file)
    }

    /// `linux.cgroupsPath` of a container.
    pub(crate) fn cgroups_path(self, id: &str) -> String {
        match self {
            Self::Cgroupfs => format!("/vm/{id}"),
            Self::Systemd => format!("vm.slice:wasm:{id}"),
        }
    }

    /// The folder of its cgroup.
    pub(crate) fn cgroup(self, id: &str) -> PathBuf {
        let below = match self {
            Self::Cgroupfs => format!("vm/{id}"),
            Self::Systemd => format!("vm.slice/wasm-{id}.scope"),
        };
        Path::new(machine::CGROUPS).join(below)
    }

    /// The cgroup of a pod, as kubelet names it.
    pub(crate) fn pods_parent(self, pod: &str) -> String {
        match self {
            Self::Cgroupfs => format!("/vmpods/{pod}"),
            Self::Systemd => format!("vmpods-{pod}.slice"),
        }
    }
}

/// One containerd with what tests ask of it.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) containerd: Containerd,
    spec: Value,
    count: AtomicU32,
}

impl Fixture {
    /// Waits for containerd and gives it the images.
    pub(crate) fn prepare() -> Result<Self> {
        ensure!(
            Path::new(machine::CGROUPS)
                .join("cgroup.controllers")
                .exists(),
            "{} is no cgroup v2",
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

    /// An id that no other container has.
    pub(crate) fn id(&self, driver: Driver, what: &str) -> String {
        format!(
            "{what}{}{}",
            driver.name(),
            self.count.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// A container of this command line, started.
    pub(crate) fn run(&self, driver: Driver, args: &[&str]) -> Result<Container<'_>> {
        self.run_limited(driver, args, &json!({}))
    }

    /// The same, with more of OCI's `linux.resources`.
    pub(crate) fn run_limited(
        &self,
        driver: Driver,
        args: &[&str],
        resources: &Value,
    ) -> Result<Container<'_>> {
        let id = self.id(driver, "c");
        let mut spec = self.spec.clone();
        spec["process"]["args"] = json!(args);
        spec["process"]["terminal"] = json!(false);
        spec["linux"]["cgroupsPath"] = json!(driver.cgroups_path(&id));
        for (key, value) in resources.as_object().context("resources are a table")? {
            spec["linux"]["resources"][key] = value.clone();
        }
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

/// What there is of a container: cgroups, units, mounts, its record and its bundle.
fn resources_of(namespace: &str, id: &str) -> Result<Vec<String>> {
    let mut left: Vec<String> = machine::cgroups_naming(id)
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    left.extend(machine::units(&format!("*{id}*"))?);
    left.extend(machine::mounts_naming(id)?);
    // Records are in a folder for each containerd.
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

/// Runs `ctr` to its end and returns what it printed.
pub(crate) fn ctr(args: &[&str]) -> Result<String> {
    machine::output("/parts/bin/ctr", args)
}

/// A container that was started. When it is dropped, what is left of it is removed.
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

    /// What it has printed so far.
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

    /// A file of its cgroup.
    pub(crate) fn cgroup(&self, file: &str) -> Result<String> {
        let path = self.driver.cgroup(&self.id).join(file);
        fs::read_to_string(&path)
            .map(|text| text.trim().to_owned())
            .with_context(|| format!("read {}", path.display()))
    }

    /// Waits for its end; its exit code.
    pub(crate) fn wait(&self) -> Result<u32> {
        self.fixture.containerd.wait(&self.id, "")
    }

    /// Adds the process `exec` of this command line, and starts it.
    pub(crate) fn exec(&self, exec: &str, args: &[&str]) -> Result<()> {
        let mut process = self.process.clone();
        process["args"] = json!(args);
        self.fixture
            .containerd
            .exec(&self.id, exec, &process, &self.output_of(exec))?;
        self.fixture.containerd.start(&self.id, exec)
    }

    /// Where a further process writes.
    fn output_of(&self, exec: &str) -> String {
        format!("{FOLDER}/{}-{exec}.out", self.id)
    }

    /// Waits for the end of a further process: what it printed, and its exit code.
    pub(crate) fn end_of(&self, exec: &str) -> Result<(String, u32)> {
        let code = self.fixture.containerd.wait(&self.id, exec)?;
        self.fixture.containerd.delete_exec(&self.id, exec)?;
        Ok((
            fs::read_to_string(self.output_of(exec)).unwrap_or_default(),
            code,
        ))
    }

    /// Ends it with a signal, waits for that, and removes its task; its exit code.
    pub(crate) fn end(&self, signal: u32) -> Result<u32> {
        self.fixture.containerd.kill(&self.id, signal)?;
        self.wait()?;
        self.delete()
    }

    /// Removes the task, which has ended; its exit code.
    pub(crate) fn delete(&self) -> Result<u32> {
        self.fixture.containerd.delete(&self.id)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // After a failure these undo what is left; otherwise there is no task any more, which they
        // say.
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
