//! The cluster with its operator, the runtime archives in its registry, and the checks before and
//! after every test.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Failed;
use serde_json::{Value, json};
use testbed::cache::Cache;
use testbed::cluster::{Cluster, ClusterOptions, NodeImage, REGISTRY, operator};
use testbed::examples;
use testbed::helm::{self, Helm};
use testbed::image::{FileArtifact, RootfsImage};
use testbed::isolated_namespace::Lifetime;
use testbed::prepared::{Images, Prepared};
use testbed::progress;
use testbed::runtime_archive::RuntimeArchive;
use testbed::teardown::Run;
use testbed::wait;

use crate::nodes::{self, State};

/// A test: a rule, and the function that checks it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) setup: Setup,
    pub(crate) body: fn(&Fixture) -> Result<()>,
}

/// The initial state of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setup {
    /// The operator, without a runtime.
    Operator,
    /// A cluster without the release.
    Bare,
}

/// Makes a list of tests from functions with these names; `bare` precedes those that begin without
/// the operator.
macro_rules! tests {
    (bare $($test:ident),+ $(,)?) => { crate::fixture::tests!(@ Bare: $($test),+); };
    (@ $setup:ident: $($test:ident),+) => {
        pub(crate) const TESTS: &[crate::fixture::Test] =
            &[$(crate::fixture::Test { name: stringify!($test),
                setup: crate::fixture::Setup::$setup, body: $test },)+];
    };
    ($($test:ident),+ $(,)?) => { crate::fixture::tests!(@ Operator: $($test),+); };
}
pub(crate) use tests;

/// The namespace of tests' pods.
pub(crate) const NAMESPACE: &str = "default";
/// The image of the probe: its first argument selects its action.
pub(crate) const PROBE: &str = "tests/probe:1";
/// The image of a static Linux program.
const NATIVE: &str = "tests/native:1";
/// The CRD of WasmRuntime.
const DEFINITION: &str = "customresourcedefinition/wasmruntimes.runtime.wasmedge.dev";
/// Timeout of a node's change: an installer's run, and kubelet's next poll of containerd.
pub(crate) const CHANGE_TIMEOUT: Duration = Duration::from_mins(3);

/// A runtime archive that nodes can download.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    pub(crate) version: String,
    pub(crate) url: String,
    pub(crate) sha256: String,
}

/// The archives in the cluster's registry.
#[derive(Debug)]
pub(crate) struct Archives {
    /// The one in the installer's image.
    pub(crate) current: Archive,
    /// Another version that works.
    pub(crate) next: Archive,
    /// One with a launcher that is not a program.
    pub(crate) broken: Archive,
}

/// The cluster of this test run.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) cluster: Cluster,
    pub(crate) helm: Helm,
    pub(crate) images: Images,
    pub(crate) archives: Archives,
    /// Each node's state before the first test.
    before: BTreeMap<String, State>,
    classes: Vec<String>,
    /// The container of each node's witness.
    witnesses: Mutex<BTreeMap<String, String>>,
}

impl Fixture {
    pub(crate) fn up(run: &Run, prepared: &Prepared) -> Result<Self> {
        let cache = Cache::open()?;
        let options = ClusterOptions {
            name: run.name().to_owned(),
            node_image: NodeImage::Own,
            lifetime: Lifetime::Process,
        };
        let cluster = Cluster::up(&cache, run, &options)?;
        let helm = Helm::find(&cache)?;
        let images = prepared.images()?.clone();
        let archives = progress::step("pushed images, examples and archives", || {
            cluster.push_images(&images)?;
            examples::ALL.iter().try_for_each(|example| {
                cluster.push(&example.image(&cache, cluster.registry())?)
            })?;
            push(&cluster, prepared)
        })?;
        let witnesses = Mutex::default();
        let mut fixture = Self {
            cluster,
            helm,
            images,
            archives,
            before: BTreeMap::new(),
            classes: Vec::new(),
            witnesses,
        };
        // Pods are refused until the controller has created their service account.
        fixture.wait_for("serviceaccount/default", "to be there", |_| Ok(Some(())))?;
        fixture
            .cluster
            .nodes()
            .iter()
            .try_for_each(|node| fixture.restart_witness(node))?;
        for node in fixture.cluster.nodes() {
            fixture.record_witness(node)?;
            nodes::mark(&fixture, node)?;
        }
        fixture.before = fixture
            .cluster
            .nodes()
            .iter()
            .map(|node| Ok((node.clone(), nodes::state(&fixture, node)?)))
            .collect::<Result<_>>()?;
        fixture.classes = fixture.classes()?;
        Ok(fixture)
    }

    /// Runs a test. Whatever its result, its runtimes and pods are removed, and the nodes are
    /// checked.
    pub(crate) fn perform(&self, test: &Test) -> Result<(), Failed> {
        let with_evidence = |error: anyhow::Error| {
            Failed::from(format!("{error:#}\n{}", self.cluster.operator_evidence()))
        };
        let setup = match test.setup {
            Setup::Operator => self.with_operator(),
            Setup::Bare => self.without_operator(),
        };
        let result = setup
            .and_then(|()| (test.body)(self))
            .map_err(with_evidence);
        let cleaned = self
            .clean()
            .and_then(|()| self.check_unchanged())
            .map_err(|error| with_evidence(error.context("after the test")));
        result.and(cleaned)
    }

    /// Installs the operator unless it is there. Tests create their own runtimes.
    fn with_operator(&self) -> Result<()> {
        if !self.has_operator()? {
            let values = json!({ "runtimes": { operator::RUNTIME: null } });
            progress::step("installed the operator", || {
                operator::install(&self.cluster, &self.helm, &self.images, &values)
            })?;
        }
        self.wait_for_operator()
    }

    fn without_operator(&self) -> Result<()> {
        if self.has_operator()? {
            operator::uninstall(&self.cluster, &self.helm)
        } else {
            Ok(())
        }
    }

    fn has_operator(&self) -> Result<bool> {
        Ok(self
            .cluster
            .get(helm::NAMESPACE, "deployment/wasmedge-operator")?
            .is_some())
    }

    /// Returns the names of nodes that are not control planes.
    pub(crate) fn workers(&self) -> Vec<&str> {
        self.cluster
            .nodes()
            .iter()
            .map(String::as_str)
            .filter(|node| !node.contains("control-plane"))
            .collect()
    }

    /// Returns the first worker.
    pub(crate) fn first(&self) -> &str {
        self.workers()[0]
    }

    /// Returns the second worker.
    pub(crate) fn second(&self) -> &str {
        self.workers()[1]
    }

    /// Returns a cluster-scoped object, or one in the tests' namespace.
    pub(crate) fn get(&self, object: &str) -> Result<Value> {
        self.cluster
            .get(NAMESPACE, object)?
            .with_context(|| format!("there is no {object}"))
    }

    pub(crate) fn exists(&self, object: &str) -> Result<bool> {
        self.cluster
            .get(NAMESPACE, object)
            .map(|found| found.is_some())
    }

    pub(crate) fn apply(&self, object: &Value) -> Result<()> {
        self.cluster.apply(NAMESPACE, &object.to_string())
    }

    /// Waits until `found` returns a value for `object`; the error carries the operator's evidence.
    pub(crate) fn wait_for<T>(
        &self,
        object: &str,
        what: &str,
        mut found: impl FnMut(&Value) -> Result<Option<T>>,
    ) -> Result<T> {
        wait::until(
            format_args!("{object}: {what}"),
            CHANGE_TIMEOUT,
            || {
                self.cluster
                    .get(NAMESPACE, object)?
                    .as_ref()
                    .map_or(Ok(None), &mut found)
            },
            || {
                format!(
                    "{}\n{}",
                    self.cluster.evidence(Some(NAMESPACE)),
                    self.cluster.operator_evidence()
                )
            },
        )
    }

    /// Waits until an object is gone.
    pub(crate) fn wait_until_gone(&self, object: &str) -> Result<()> {
        wait::until(
            format_args!("{object} to be gone"),
            CHANGE_TIMEOUT,
            || Ok((!self.exists(object)?).then_some(())),
            || self.cluster.operator_evidence(),
        )
    }

    /// Returns the state of `node` before the first test.
    pub(crate) fn before(&self, node: &str) -> &State {
        &self.before[node]
    }

    pub(crate) fn wait_for_operator(&self) -> Result<()> {
        let args = [
            "--namespace",
            helm::NAMESPACE,
            "rollout",
            "status",
            "--timeout=120s",
            "deployment",
        ];
        let by_label = ["--selector", "app.kubernetes.io/name=wasmedge-operator"];
        self.cluster
            .kubectl()
            .args(args)
            .args(by_label)
            .done()
            .map_err(|error| error.context(self.cluster.operator_evidence()))
    }

    /// Records the container of a node's witness: the witness does not use the runtime, and must
    /// keep running.
    fn record_witness(&self, node: &str) -> Result<()> {
        let container = self.running(&witness(node))?;
        self.witnesses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(node.to_owned(), container);
        Ok(())
    }

    fn recorded_witness(&self, node: &str) -> String {
        self.witnesses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(node)
            .cloned()
            .unwrap_or_default()
    }

    /// Waits, after a test restarted a node or its witness, until the witness runs in another
    /// container, which must keep running from then on. Files that a node writes at its start are
    /// not a change.
    pub(crate) fn wait_for_restarted_witness(&self, node: &str) -> Result<()> {
        let former = self.recorded_witness(node);
        self.wait_for(
            &format!("pod/{}", witness(node)),
            "to run in another container",
            |pod| {
                Ok(container(pod)
                    .filter(|container| *container != former)
                    .map(drop))
            },
        )?;
        self.record_witness(node)?;
        nodes::mark(self, node)
    }

    /// Starts the witness on a node, unless it is there.
    pub(crate) fn restart_witness(&self, node: &str) -> Result<()> {
        let container = json!({ "name": "witness", "image": format!("{REGISTRY}/{NATIVE}"),
            "args": ["sleep"] });
        let tolerations = json!([{ "operator": "Exists" }]);
        self.apply(&json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": witness(node) },
            "spec": { "nodeName": node, "containers": [container],
            "terminationGracePeriodSeconds": 1, "tolerations": tolerations },
        }))
    }

    /// Waits until a pod runs, and returns its container's id.
    pub(crate) fn running(&self, pod: &str) -> Result<String> {
        self.wait_for(&format!("pod/{pod}"), "to run", |pod| Ok(container(pod)))
    }

    /// Removes everything that a test made, the runtimes last: pods may still use them.
    fn clean(&self) -> Result<()> {
        let pods = [
            "delete",
            "pods,deployments,jobs",
            "--selector=made-by=test",
            "--wait",
            "--timeout=120s",
            "--ignore-not-found",
        ];
        self.cluster
            .kubectl()
            .args(["--namespace", NAMESPACE])
            .args(pods)
            .done()?;
        // If the chart was never installed there are none.
        if self.exists(DEFINITION)? {
            self.cluster
                .kubectl()
                .args([
                    "delete",
                    "wasmruntimes",
                    "--all",
                    "--wait",
                    "--timeout=240s",
                ])
                .done()?;
        }
        self.empty_pools()?;
        if self.has_operator()? {
            self.wait_for_operator()
        } else {
            Ok(())
        }
    }

    /// Removes all nodes from their pools.
    pub(crate) fn empty_pools(&self) -> Result<()> {
        self.workers().into_iter().try_for_each(|node| {
            self.cluster
                .kubectl()
                .args(["label", "node", node, "pool-"])
                .done()
        })
    }

    /// Checks that nodes and cluster are unchanged, except for the operator and its API.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        for (node, before) in &self.before {
            let now = nodes::state(self, node)?;
            ensure!(
                now == *before,
                "{node} changed:\n{}",
                before.difference(&now)
            );
            let witness = self.running(&witness(node))?;
            ensure!(
                witness == self.recorded_witness(node),
                "the witness on {node} was restarted"
            );
        }
        let classes = self.classes()?;
        ensure!(
            classes == self.classes,
            "the RuntimeClasses were {:?}, are {classes:?}",
            self.classes
        );
        if !self.exists(DEFINITION)? {
            return Ok(());
        }
        let left = self
            .cluster
            .kubectl()
            .args(["get", "wasmruntimes,wasmruntimenodes", "--output=name"])
            .text()?;
        ensure!(left.is_empty(), "still there: {left}");
        let jobs = [
            "--namespace",
            helm::NAMESPACE,
            "get",
            "jobs",
            "--selector=runtime.wasmedge.dev/runtime",
            "--output=name",
        ];
        let left = self.cluster.kubectl().args(jobs).text()?;
        ensure!(left.is_empty(), "still there: {left}");
        Ok(())
    }

    /// Returns every RuntimeClass without the API server's metadata.
    fn classes(&self) -> Result<Vec<String>> {
        let text = self
            .cluster
            .kubectl()
            .args(["get", "runtimeclasses", "--output=json"])
            .text()?;
        let list: Value = serde_json::from_str(&text).context("read the RuntimeClasses")?;
        let plain = |class: &Value| {
            let metadata = &class["metadata"];
            let own = json!({ "name": metadata["name"], "labels": metadata["labels"],
                "annotations": metadata["annotations"] });
            json!({ "own": own, "handler": class["handler"], "overhead": class["overhead"],
                "scheduling": class["scheduling"] })
            .to_string()
        };
        Ok(list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(plain)
            .collect())
    }
}

/// Returns the name of a node's witness, a pod that does not use the runtime.
pub(crate) fn witness(node: &str) -> String {
    format!("witness-{node}")
}

/// Returns the id of a pod's container, if it runs.
fn container(pod: &Value) -> Option<String> {
    let container = &pod["status"]["containerStatuses"][0];
    container["state"]["running"].is_object().then(|| {
        container["containerID"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    })
}

fn push(cluster: &Cluster, prepared: &Prepared) -> Result<Archives> {
    let read = |file: &Path| fs::read(file).with_context(|| format!("read {}", file.display()));
    let reference = |image: &str| format!("{}/{image}", cluster.registry());
    cluster
        .push(&RootfsImage::of_guest(&reference(PROBE), read(&prepared.guests.probe)?).pack()?)?;
    let native = RootfsImage::of_native(&reference(NATIVE), read(&prepared.guests.native)?);
    cluster.push(&native.pack()?)?;
    let current = RuntimeArchive::read(&prepared.archive)?;
    let broken = current
        .clone()
        .with_version(&format!("{}-broken", current.version()))
        .with_file("bin/wasmedge-host", "no program");
    Ok(Archives {
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
    let layer = packed
        .blobs()
        .last()
        .context("the artifact has no layer")?
        .digest()
        .to_owned();
    cluster.push(&packed)?;
    let sha256 = layer.trim_start_matches("sha256:").to_owned();
    Ok(Archive {
        url: format!(
            "http://{}/v2/{repository}/blobs/sha256:{sha256}",
            cluster.registry()
        ),
        version,
        sha256,
    })
}
