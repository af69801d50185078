//! The cluster with its operator, the runtimes' archives in its registry, and what holds before and after every test.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Failed;
use serde_json::{Value, json};
use testbed::cache::Cache;
use testbed::cell::Lifetime;
use testbed::cluster::{Cluster, ClusterOptions, NodeImage, REGISTRY, operator};
use testbed::helm::Helm;
use testbed::image::{Entry, FileArtifact, RootfsImage};
use testbed::prepared::{Former, Prepared};
use testbed::progress;
use testbed::runtime_archive::RuntimeArchive;
use testbed::teardown::Run;
use testbed::wait;

use crate::nodes::{self, State};

/// A rule, and how to see that it holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) body: fn(&Bed) -> Result<()>,
}

/// Makes a list of tests from functions, named as these are.
macro_rules! tests {
    ($($test:ident),+ $(,)?) => {
        pub(crate) const TESTS: &[crate::bed::Test] = &[$(crate::bed::Test { name: stringify!($test), body: $test },)+];
    };
}
pub(crate) use tests;

/// Where tests' pods live.
pub(crate) const NAMESPACE: &str = "default";
/// The image of the probe: its first argument says what it does.
pub(crate) const PROBE: &str = "tests/probe:1";
/// The image of a static Linux program.
const NATIVE: &str = "tests/native:1";
/// What a node may take for a change: an installer's run, and kubelet's next look at containerd.
pub(crate) const LIMIT: Duration = Duration::from_mins(3);

/// An archive of a runtime that nodes can download.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    pub(crate) version: String,
    pub(crate) url: String,
    pub(crate) sha256: String,
}

/// The archives in the cluster's registry.
#[derive(Debug)]
pub(crate) struct Archives {
    /// What the installer's image holds.
    pub(crate) current: Archive,
    /// Another version that works.
    pub(crate) next: Archive,
    /// The runtime of before the node host; none where nobody built it.
    pub(crate) former: Option<Archive>,
    /// One whose launcher is no program.
    pub(crate) broken: Archive,
}

/// The cluster of this test run.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) cluster: Cluster,
    pub(crate) archives: Archives,
    /// Each node as it was before the first test.
    before: BTreeMap<String, State>,
    witnesses: BTreeMap<String, String>,
}

impl Bed {
    pub(crate) fn up(run: &Run, prepared: &Prepared) -> Result<Self> {
        let cache = Cache::open()?;
        let options = ClusterOptions { name: run.name().to_owned(), node_image: NodeImage::Own, lifetime: Lifetime::Process };
        let cluster = Cluster::up(&cache, run, &options)?;
        let helm = Helm::find(&cache)?;
        let archives = progress::step("pushed the tests' images and archives", || push(&cluster, prepared))?;
        // The tests make runtimes of their own.
        let values = json!({ "runtimes": { operator::RUNTIME: null } });
        progress::step("installed the operator", || operator::install(&cluster, &helm, prepared.images()?, &values))?;
        let mut bed = Self { cluster, archives, before: BTreeMap::new(), witnesses: BTreeMap::new() };
        bed.wait_for_operator()?;
        bed.witnesses = bed.start_witnesses()?;
        bed.before = bed.states()?;
        Ok(bed)
    }

    /// Runs a test. Whatever became of it, its runtimes and pods are taken away, and the nodes are looked at.
    pub(crate) fn perform(&self, test: &Test) -> Result<(), Failed> {
        let result = (test.body)(self).map_err(|error| Failed::from(format!("{error:#}\n{}", self.cluster.operator_evidence())));
        let cleaned = self.clean().and_then(|()| self.nodes_are_as_before());
        let cleaned = cleaned.map_err(|error| Failed::from(format!("after the test: {error:#}\n{}", self.cluster.operator_evidence())));
        result.and(cleaned)
    }

    /// The names of nodes that are no control plane's.
    pub(crate) fn workers(&self) -> Vec<&str> {
        self.cluster.nodes().iter().map(String::as_str).filter(|node| !node.contains("control-plane")).collect()
    }

    /// The first worker.
    pub(crate) fn first(&self) -> &str {
        self.workers()[0]
    }

    /// The second worker.
    pub(crate) fn second(&self) -> &str {
        self.workers()[1]
    }

    /// An object that belongs to no namespace, or to the tests' own.
    pub(crate) fn get(&self, object: &str) -> Result<Value> {
        self.cluster.get(NAMESPACE, object)?.with_context(|| format!("there is no {object}"))
    }

    pub(crate) fn is_there(&self, object: &str) -> Result<bool> {
        self.cluster.get(NAMESPACE, object).map(|found| found.is_some())
    }

    pub(crate) fn apply(&self, object: &Value) -> Result<()> {
        self.cluster.apply(NAMESPACE, &object.to_string())
    }

    /// Waits for what `found` says of `object`, with the operator's own words when it does not come.
    pub(crate) fn wait_for<T>(&self, object: &str, what: &str, mut found: impl FnMut(&Value) -> Result<Option<T>>) -> Result<T> {
        wait::until(
            format_args!("{object}: {what}"),
            LIMIT,
            || self.cluster.get(NAMESPACE, object)?.as_ref().map_or(Ok(None), &mut found),
            || format!("{}\n{}", self.cluster.evidence(Some(NAMESPACE)), self.cluster.operator_evidence()),
        )
    }

    /// Waits until an object is gone.
    pub(crate) fn wait_until_gone(&self, object: &str) -> Result<()> {
        wait::until(
            format_args!("{object} to be gone"),
            LIMIT,
            || Ok((!self.is_there(object)?).then_some(())),
            || self.cluster.operator_evidence(),
        )
    }

    /// Each node as it is now.
    pub(crate) fn states(&self) -> Result<BTreeMap<String, State>> {
        self.cluster.nodes().iter().map(|node| Ok((node.clone(), nodes::state(self, node)?))).collect()
    }

    /// What `node` was like before the first test.
    pub(crate) fn before(&self, node: &str) -> &State {
        &self.before[node]
    }

    pub(crate) fn wait_for_operator(&self) -> Result<()> {
        let args = ["--namespace", testbed::helm::NAMESPACE, "rollout", "status", "--timeout=120s", "deployment"];
        let by_label = ["--selector", "app.kubernetes.io/name=wasmedge-operator"];
        self.cluster.kubectl().args(args).args(by_label).done().map_err(|error| error.context(self.cluster.operator_evidence()))
    }

    /// A pod on every node that has nothing to do with the runtime; its container's id by its name.
    fn start_witnesses(&self) -> Result<BTreeMap<String, String>> {
        for node in self.cluster.nodes() {
            self.revive(node)?;
        }
        self.cluster.nodes().iter().map(|node| Ok((node.clone(), self.running(&format!("witness-{node}"))?))).collect()
    }

    /// Starts the witness on a node, unless it is there.
    pub(crate) fn revive(&self, node: &str) -> Result<()> {
        let container = json!({ "name": "witness", "image": format!("{REGISTRY}/{NATIVE}"), "args": ["sleep"] });
        let tolerations = json!([{ "operator": "Exists" }]);
        self.apply(&json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": format!("witness-{node}") },
            "spec": { "nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 1, "tolerations": tolerations },
        }))
    }

    /// Waits until a pod runs, and gives its container's id.
    pub(crate) fn running(&self, pod: &str) -> Result<String> {
        self.wait_for(&format!("pod/{pod}"), "to run", |pod| {
            let container = &pod["status"]["containerStatuses"][0];
            Ok(container["state"]["running"].is_object().then(|| container["containerID"].as_str().unwrap_or_default().to_owned()))
        })
    }

    /// Takes away all that a test made, the runtimes last: pods may still use them.
    fn clean(&self) -> Result<()> {
        let pods = ["delete", "pods,deployments,jobs", "--selector=made-by=test", "--wait", "--timeout=120s", "--ignore-not-found"];
        self.cluster.kubectl().args(["--namespace", NAMESPACE]).args(pods).done()?;
        self.cluster.kubectl().args(["delete", "wasmruntimes", "--all", "--wait", "--timeout=240s"]).done()?;
        for node in self.workers() {
            self.cluster.kubectl().args(["label", "node", node, "pool-"]).done()?;
        }
        self.wait_for_operator()
    }

    fn nodes_are_as_before(&self) -> Result<()> {
        for (node, before) in &self.before {
            let now = nodes::state(self, node)?;
            ensure!(now == *before, "{node} is not as it was:\n{}", before.difference(&now));
            let witness = self.running(&format!("witness-{node}"))?;
            ensure!(
                Some(&witness) == self.witnesses.get(node) || nodes::was_restarted(self, node)?,
                "the pod witness-{node} was restarted"
            );
        }
        ensure!(!self.is_there("runtimeclass/wasmedge")?, "the RuntimeClass is still there");
        let left = self.cluster.kubectl().args(["get", "wasmruntimenodes", "--output=name"]).text()?;
        ensure!(left.is_empty(), "still there: {left}");
        let jobs = ["--namespace", testbed::helm::NAMESPACE, "get", "jobs", "--selector=runtime.wasmedge.dev/runtime", "--output=name"];
        let left = self.cluster.kubectl().args(jobs).text()?;
        ensure!(left.is_empty(), "still there: {left}");
        Ok(())
    }
}

fn push(cluster: &Cluster, prepared: &Prepared) -> Result<Archives> {
    let read = |file: &Path| fs::read(file).with_context(|| format!("read {}", file.display()));
    let reference = |image: &str| format!("{}/{image}", cluster.registry());
    cluster.push(&RootfsImage::of_guest(&reference(PROBE), read(&prepared.guests.probe)?).pack()?)?;
    let native = RootfsImage {
        reference: reference(NATIVE),
        entrypoint: vec!["/native".to_owned()],
        files: vec![Entry::file("/native", read(&prepared.guests.native)?, 0o755)],
        ..RootfsImage::default()
    };
    cluster.push(&native.pack()?)?;
    let current = RuntimeArchive::read(&prepared.archive)?;
    let broken = current.clone().with_version(&format!("{}-broken", current.version())).with_file("bin/wasmedge-host", "no program");
    let former = match &prepared.former {
        Former::Archive(file) => Some(push_archive(cluster, &RuntimeArchive::read(file)?)?),
        Former::Missing(_) => None,
    };
    Ok(Archives {
        former,
        next: push_archive(cluster, &RuntimeArchive::read(&prepared.next_archive)?)?,
        broken: push_archive(cluster, &broken)?,
        current: push_archive(cluster, &current)?,
    })
}

fn push_archive(cluster: &Cluster, archive: &RuntimeArchive) -> Result<Archive> {
    let version = archive.version().to_owned();
    let repository = format!("runtime/{version}");
    let artifact = FileArtifact {
        reference: format!("{}/{repository}:1", cluster.registry()),
        media_type: "application/vnd.wasmedge.runtime.v1.tar+gzip".to_owned(),
        name: archive.file_name(),
        bytes: archive.pack()?,
    };
    let packed = artifact.pack()?;
    let layer = packed.blobs().last().context("an artifact has a layer")?.digest().to_owned();
    cluster.push(&packed)?;
    let sha256 = layer.trim_start_matches("sha256:").to_owned();
    Ok(Archive { url: format!("http://{}/v2/{repository}/blobs/sha256:{sha256}", cluster.registry()), version, sha256 })
}
