//! A kind worker that has every subject as a runtime class.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use testbed::cache::Cache;
use testbed::cluster::{Cluster, ClusterOptions, NodeImage, REGISTRY};
use testbed::command::Run as Command;
use testbed::isolated_namespace::Lifetime;
use testbed::progress;
use testbed::teardown::Run;

use super::cpu_time::Clock;
use crate::bench::programs::{self, Does};
use crate::bench::subject::{self, Files, Subject};

/// The name of the Deployment, and the label of its pods.
const NAME: &str = "burst";
const NAMESPACE: &str = "default";
/// How long all pods may take to become ready, or to end.
const PODS_TIMEOUT: Duration = Duration::from_mins(4);
/// How long the node may take to become ready after a restart of its containerd.
const NODE_TIMEOUT: Duration = Duration::from_mins(1);
/// The folder of the runtimes in the node.
const NODE_FOLDER: &str = "/opt/bench";

/// The node on which pods are measured.
#[derive(Debug)]
pub(super) struct Worker {
    cluster: Cluster,
    root: i32,
    per_second: f64,
}

impl Worker {
    /// Creates a cluster with `subjects` on its worker, and runs a pod of each there.
    pub(super) fn start(cache: &Cache, run: &Run, subjects: &[Subject]) -> Result<Self> {
        let options = ClusterOptions {
            name: run.name().to_owned(),
            node_image: NodeImage::Own,
            lifetime: Lifetime::Process,
        };
        let cluster = Cluster::up(cache, run, &options)?;
        progress::step("pushed the images", || {
            programs::images(cache, cluster.registry(), &subject::workloads(subjects))?
                .iter()
                .try_for_each(|image| cluster.push(image))
        })?;
        let root = root(&cluster)?;
        let per_second = Command::new("getconf")
            .arg("CLK_TCK")
            .text()?
            .parse()
            .context("read how many ticks a second has")?;
        let worker = Self {
            cluster,
            root,
            per_second,
        };
        progress::step("brought the runtimes to the worker", || {
            worker.install_subjects(subjects)
        })?;
        for subject in subjects {
            progress::step(
                format_args!("ran the first pod of {}", subject.name),
                || {
                    worker.scale_up(subject, 1)?;
                    worker.delete()
                },
            )?;
        }
        Ok(worker)
    }

    /// Returns the pid of the node's first process on this machine.
    pub(super) fn root(&self) -> i32 {
        self.root
    }

    /// Returns the CPU time so far.
    pub(super) fn clock(&self) -> Result<Clock> {
        Clock::now(self.root, self.per_second)
    }

    /// Creates a Deployment of that many pods and waits until all are ready.
    pub(super) fn scale_up(&self, subject: &Subject, pods: usize) -> Result<()> {
        self.cluster.apply(
            NAMESPACE,
            &deployment(subject, pods, self.cluster.worker()).to_string(),
        )?;
        let ready = format!("--for=jsonpath={{.status.readyReplicas}}={pods}");
        self.kubectl(&["wait", &ready, &format!("deployment/{NAME}")])
    }

    /// Deletes it and waits until its pods are gone.
    pub(super) fn delete(&self) -> Result<()> {
        self.kubectl(&[
            "delete",
            "deployment",
            NAME,
            "--cascade=foreground",
            "--wait",
        ])
    }

    /// Runs `kubectl`, which waits at most for [`PODS_TIMEOUT`].
    fn kubectl(&self, words: &[&str]) -> Result<()> {
        let run = self
            .cluster
            .kubectl()
            .args(["--namespace", NAMESPACE])
            .args(words)
            .arg(format!("--timeout={}s", PODS_TIMEOUT.as_secs()));
        run.deadline(PODS_TIMEOUT + Duration::from_secs(30))
            .done()
            .map_err(|error| error.context(self.cluster.evidence(Some(NAMESPACE))))
    }

    /// Installs every subject on the node: the folders, containerd's handlers, and the runtime
    /// classes.
    fn install_subjects(&self, subjects: &[Subject]) -> Result<()> {
        let node = self.cluster.worker();
        let mut handlers = String::new();
        for subject in subjects {
            let name = &subject.name;
            let class = json!({ "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
                "metadata": { "name": name }, "handler": name });
            self.cluster.apply(NAMESPACE, &class.to_string())?;
            let place = Path::new(NODE_FOLDER).join(name.as_str());
            let Some(shim) = self.copy(subject, &place)? else {
                continue;
            };
            write!(handlers, "\n{}", handler(name.as_str(), &shim)).context("write a handler")?;
        }
        self.cluster
            .in_node(node, &["sh", "-c", "cat >> /etc/containerd/config.toml"])
            .input(handlers)
            .done()?;
        self.cluster
            .in_node(node, &["systemctl", "restart", "containerd"])
            .deadline(NODE_TIMEOUT)
            .done()?;
        let ready = [
            "wait",
            "--for=condition=Ready",
            &format!("node/{node}"),
            &format!("--timeout={}s", NODE_TIMEOUT.as_secs()),
        ];
        self.cluster
            .kubectl()
            .args(ready)
            .deadline(NODE_TIMEOUT * 2)
            .done()
    }

    /// Copies a subject's files into the folder `place` of the node; returns the shim's path there.
    /// `None` if the node's containerd includes the shim.
    fn copy(&self, subject: &Subject, place: &Path) -> Result<Option<PathBuf>> {
        let Some(Copied {
            folder,
            entry,
            shim,
        }) = copied(subject)?
        else {
            return Ok(None);
        };
        let draft = tempfile::tempdir().context("make a folder for an archive")?;
        let archive = draft.path().join("subject.tar");
        // A bundle keeps its links, without the files for compiling. An executable may be a link to
        // its file.
        let options = ["--create", "--exclude=./compile"]
            .into_iter()
            .chain((subject.files == Files::Executable).then_some("--dereference"));
        Command::new("tar")
            .args(options)
            .arg("--file")
            .arg(&archive)
            .arg("--directory")
            .arg(folder)
            .arg(entry)
            .done()?;
        let bytes = fs::read(&archive).with_context(|| format!("read {}", archive.display()))?;
        let unpack = "mkdir -p \"$0\" && tar --extract --directory \"$0\" --no-same-owner --file -";
        let node = self.cluster.worker();
        self.cluster
            .in_node(node, &["sh", "-c", unpack, &place.display().to_string()])
            .input(bytes)
            .deadline(NODE_TIMEOUT)
            .done()?;
        Ok(Some(place.join(shim)))
    }
}

/// The part of a folder that is copied to the node.
#[derive(Debug, PartialEq, Eq)]
struct Copied<'a> {
    folder: &'a Path,
    entry: &'a Path,
    /// The shim's path in that folder.
    shim: &'a Path,
}

/// Returns the files to copy for a subject; `None` if its shim comes with containerd.
fn copied(subject: &Subject) -> Result<Option<Copied<'_>>> {
    let shim = subject.shim.as_path();
    Ok(match &subject.files {
        Files::WithContainerd => None,
        Files::Bundle(folder) => {
            let shim = shim
                .strip_prefix(folder)
                .context("the shim is outside its bundle")?;
            Some(Copied {
                folder,
                entry: Path::new("."),
                shim,
            })
        }
        Files::Executable => {
            let (folder, name) = shim
                .parent()
                .zip(shim.file_name())
                .with_context(|| format!("{} is not a file", shim.display()))?;
            Some(Copied {
                folder,
                entry: Path::new(name),
                shim: Path::new(name),
            })
        }
    })
}

/// Returns a handler for the node's containerd configuration, which has the second schema.
fn handler(name: &str, shim: &Path) -> String {
    let table = "plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes";
    format!("[{table}.{name}]\nruntime_type = \"{}\"\n", shim.display())
}

/// Returns a Deployment of `pods` idle pods, all on `node`.
fn deployment(subject: &Subject, pods: usize, node: &str) -> Value {
    let program = programs::program(subject.workload, Does::Idle);
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": NAME },
        "spec": {
            "replicas": pods,
            "selector": { "matchLabels": { "app": NAME } },
            "template": {
                "metadata": { "labels": { "app": NAME } },
                "spec": {
                    "runtimeClassName": subject.name,
                    "nodeSelector": { "kubernetes.io/hostname": node },
                    "containers": [{ "name": "idle", "image": format!("{REGISTRY}/{}",
                    program.image), "command": program.words }],
                },
            },
        },
    })
}

/// Returns the pid, on this machine, of the worker's first process.
fn root(cluster: &Cluster) -> Result<i32> {
    let node = cluster.worker();
    let namespace = cluster
        .in_node(node, &["readlink", "/proc/1/ns/pid"])
        .text()?;
    let is_first = |status: &str| {
        status.lines().any(|line| {
            line.starts_with("NSpid:") && line.split_whitespace().next_back() == Some("1")
        })
    };
    let entries = fs::read_dir("/proc").context("list the machine's processes")?;
    let first = entries.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse::<i32>().ok()?;
        let own = fs::read_link(entry.path().join("ns/pid")).ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        (own.as_os_str() == namespace.trim() && is_first(&status)).then_some(pid)
    });
    first.with_context(|| format!("no process of this machine is the first one in {node}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::programs::Workload;
    use crate::bench::subject::name::SubjectName;

    fn subject(files: Files) -> Subject {
        Subject {
            name: SubjectName::Ours,
            shim: "/b/bin/shim".into(),
            files,
            workload: Workload::Rootfs,
        }
    }

    #[test]
    fn pods_have_the_subjects_runtime_class_and_run_on_the_worker() {
        let deployment = deployment(&subject(Files::Executable), 60, "w");
        assert_eq!(deployment["spec"]["replicas"], 60);
        let spec = &deployment["spec"]["template"]["spec"];
        assert_eq!(spec["runtimeClassName"], "ours");
        assert_eq!(spec["nodeSelector"]["kubernetes.io/hostname"], "w");
        assert_eq!(spec["containers"][0]["command"][0], "/app.wasm");
    }

    #[test]
    fn node_gets_a_whole_bundle_or_a_peers_executable() {
        for (files, expected) in [
            (Files::WithContainerd, None),
            (Files::Bundle("/b".into()), Some(["/b", ".", "bin/shim"])),
            (Files::Executable, Some(["/b/bin", "shim", "shim"])),
        ] {
            let expected =
                expected
                    .map(|parts| parts.map(Path::new))
                    .map(|[folder, entry, shim]| Copied {
                        folder,
                        entry,
                        shim,
                    });
            assert_eq!(copied(&subject(files)).unwrap(), expected);
        }
    }

    #[test]
    fn handler_has_the_path_of_the_shim() {
        let text = handler("ours", Path::new("/opt/bench/ours/bin/shim"));
        assert!(
            text.contains("runtimes.ours]\nruntime_type = \"/opt/bench/ours/bin/shim\"\n"),
            "{text}"
        );
    }
}
