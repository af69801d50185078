//! The cluster that all tests share, the images in its registry, and a namespace for each test.

use std::fs;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use anyhow::{Context as _, Result};
use libtest_mimic::Failed;
use testbed::cache::Cache;
use testbed::cluster::{Cluster, ClusterOptions, NodeImage, REGISTRY, operator};
use testbed::examples;
use testbed::helm::Helm;
use testbed::image::{Artifact, RootfsImage, WasmLayer};
use testbed::isolated_namespace::Lifetime;
use testbed::prepared::Prepared;
use testbed::progress;
use testbed::teardown::Run;
use testbed::{helm, wait};

/// A test: a rule, and the function that checks it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) concurrency: Concurrency,
    pub(crate) body: fn(&Namespace<'_>) -> Result<()>,
}

/// Whether other tests may run at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Concurrency {
    /// They may.
    Any,
    /// They may not: the test measures time.
    Alone,
}

/// Makes a list of tests from functions with these names; `alone` precedes those that measure time.
macro_rules! tests {
    ($($any:ident),+ $(,)? $(; alone $($alone:ident),+ $(,)?)?) => {
        pub(crate) const TESTS: &[crate::fixture::Test] = &[
            $(crate::fixture::Test { name: stringify!($any),
                concurrency: crate::fixture::Concurrency::Any, body: $any },)+
            $($(crate::fixture::Test { name: stringify!($alone),
                concurrency: crate::fixture::Concurrency::Alone, body: $alone },)+)?
        ];
    };
}
pub(crate) use tests;

/// The image of the probe, as a root file system.
pub(crate) const PROBE: &str = "tests/probe:1";
/// The image of the probe, as a CNCF Wasm artifact.
pub(crate) const PROBE_ARTIFACT: &str = "tests/probe-artifact:1";
/// The image of the static Linux program.
pub(crate) const NATIVE: &str = "tests/native:1";

/// Timeout for the operator to install the runtime on one node, its own start included.
const INSTALL_TIMEOUT: std::time::Duration = std::time::Duration::from_mins(3);

/// Returns an image's reference in pods.
pub(crate) fn in_pods(image: &str) -> String {
    format!("{REGISTRY}/{image}")
}

/// The cluster of this test run.
#[derive(Debug)]
pub(crate) struct Fixture {
    cluster: Cluster,
    concurrency: RwLock<()>,
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
        progress::step("installed the operator", || {
            // The runtime is on one worker only: its absence elsewhere is tested too.
            let selector = serde_json::json!({ "matchLabels": { "kubernetes.io/hostname":
                cluster.worker() } });
            let values = serde_json::json!({ "runtimes": { operator::RUNTIME: { "nodeSelector":
                selector } } });
            operator::install(&cluster, &helm, prepared.images()?, &values)
        })?;
        progress::step("pushed the tests' images", || {
            push(&cache, &cluster, prepared)
        })?;
        progress::step(
            format_args!("the runtime is on {}", cluster.worker()),
            || cluster.wait_for_condition(operator::RUNTIME, "Available", "True", INSTALL_TIMEOUT),
        )?;
        Ok(Self {
            cluster,
            concurrency: RwLock::default(),
        })
    }

    /// Runs a test in a namespace of its own; a failure carries the cluster's evidence.
    pub(crate) fn perform(&self, test: &Test) -> Result<(), Failed> {
        // The lock protects no data, so a test that panicked does not affect the others.
        let _shared;
        let _alone;
        match test.concurrency {
            Concurrency::Any => {
                _shared = self
                    .concurrency
                    .read()
                    .unwrap_or_else(PoisonError::into_inner);
            }
            Concurrency::Alone => {
                _alone = self
                    .concurrency
                    .write()
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
        let name = test.name.replace('_', "-");
        let namespace = Namespace {
            cluster: &self.cluster,
            name: name[..name.len().min(63)].trim_end_matches('-').to_owned(),
        };
        let quiet = if test.concurrency == Concurrency::Alone {
            self.wait_for_quiet()
        } else {
            Ok(())
        };
        let result = quiet
            .and_then(|()| namespace.create())
            .and_then(|()| (test.body)(&namespace));
        let result = result.map_err(|error| {
            Failed::from(format!(
                "{error:#}\n{}",
                self.cluster.evidence(Some(&namespace.name))
            ))
        });
        // A failed test's pods would disturb the next one too; their logs are in its message.
        let deleted = namespace.delete();
        result?;
        Ok(deleted?)
    }
}

impl Fixture {
    /// Waits until the pods of earlier tests are gone. Namespaces are deleted while the next test
    /// runs; a test that measures time needs an idle cluster.
    fn wait_for_quiet(&self) -> Result<()> {
        // The cluster's own pods and the operator's stay.
        let others = format!(
            "--field-selector=metadata.namespace!=kube-system,metadata.namespace!={}",
            helm::NAMESPACE
        );
        let pods = || {
            self.cluster
                .kubectl()
                .args(["get", "pods", "--all-namespaces", &others, "--output=name"])
                .text()
        };
        wait::until(
            "the pods of earlier tests to be gone",
            std::time::Duration::from_mins(2),
            || Ok(pods()?.is_empty().then_some(())),
            || self.cluster.evidence(None),
        )
    }
}

fn push(cache: &Cache, cluster: &Cluster, prepared: &Prepared) -> Result<()> {
    let read = |file: &Path| fs::read(file).with_context(|| format!("read {}", file.display()));
    let reference = |image: &str| format!("{}/{image}", cluster.registry());
    let probe = read(&prepared.guests.probe)?;
    let mut image = RootfsImage::of_guest(&reference(PROBE), probe.clone());
    image.env = vec!["IMAGE=1".to_owned()];
    cluster.push(&image.pack()?)?;
    cluster.push(
        &Artifact {
            reference: reference(PROBE_ARTIFACT),
            guest: probe,
            layer: WasmLayer::Wasm,
        }
        .pack()?,
    )?;
    let native = RootfsImage::of_native(&reference(NATIVE), read(&prepared.guests.native)?);
    cluster.push(&native.pack()?)?;
    examples::ALL
        .iter()
        .try_for_each(|example| cluster.push(&example.image(cache, cluster.registry())?))
}

/// A namespace in the cluster.
#[derive(Debug)]
pub(crate) struct Namespace<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) name: String,
}

impl Namespace<'_> {
    fn create(&self) -> Result<()> {
        self.cluster
            .kubectl()
            .args(["create", "namespace", &self.name])
            .done()?;
        // Pods are refused until the controller has created their service account.
        self.cluster
            .wait_for(&self.name, "serviceaccount/default", "to be there", |_| {
                Ok(Some(()))
            })
    }

    fn delete(&self) -> Result<()> {
        self.cluster
            .kubectl()
            .args(["delete", "namespace", &self.name, "--wait=false"])
            .done()
    }

    pub(crate) fn apply(&self, manifest: &serde_json::Value) -> Result<()> {
        self.cluster.apply(&self.name, &manifest.to_string())
    }

    /// Returns a run of `kubectl` for this namespace.
    pub(crate) fn kubectl(&self) -> testbed::command::Run {
        self.cluster.kubectl().args(["--namespace", &self.name])
    }

    pub(crate) fn get(&self, object: &str) -> Result<Option<serde_json::Value>> {
        self.cluster.get(&self.name, object)
    }

    /// Waits until a log contains `text`, and returns the log.
    pub(crate) fn log_with(&self, pod: &str, container: &str, text: &str) -> Result<String> {
        wait::until(
            format_args!("{text:?} in the log of {container} of {pod}"),
            std::time::Duration::from_mins(2),
            // There is no log until the container has started.
            || {
                Ok(self
                    .cluster
                    .log(&self.name, pod, container)
                    .ok()
                    .filter(|log| log.contains(text)))
            },
            || self.cluster.evidence(Some(&self.name)),
        )
    }
}
