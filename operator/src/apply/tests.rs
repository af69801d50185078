//! Tests of each action on a fake API server: its writes, its refusals, and that it is idempotent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clap::Parser as _;
use fake_cluster::resource::{JOB, NODE, RUNTIME_CLASS, WASM_RUNTIME, WASM_RUNTIME_NODE};
use fake_cluster::{Cluster, Faults, Key};
use installer_protocol::{Distribution, Paths, Request, Verb, request};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::cli::{Cli, Command};
use crate::crd::{Phase, StartupTaint, TaintEffect, WasmRuntimeNodeStatus, WasmRuntimeStatus};
use crate::metrics::Metrics;
use crate::names;
use crate::plan::NodeState;

const NAMESPACE: &str = "wasmedge-system";

/// A cluster with a runtime and a node.
struct Stage {
    cluster: Cluster,
    line: fake_cluster::Connection,
    context: Context,
}

impl Stage {
    fn new(spec: &Value) -> Self {
        let cluster = Cluster::start();
        let runtime = json!({ "apiVersion": "runtime.wasmedge.dev/v1alpha1", "kind": "WasmRuntime",
            "metadata": { "name": "wasmedge" }, "spec": spec });
        cluster.create(runtime).unwrap();
        let node = json!({ "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": "node-a", "labels": { "kubernetes.io/hostname": "node-a" } },
            "spec": { "taints": [
                { "key": "starting", "effect": "NoSchedule" },
                { "key": "starting", "effect": "NoExecute", "value": "x" },
                { "key": "gpu", "effect": "NoSchedule" },
            ] } });
        cluster.create(node).unwrap();
        let arguments = [
            "wasmedge-operator",
            "run",
            "--namespace=wasmedge-system",
            "--installer-image=installer:1",
            "--identity=operator-1",
        ];
        let Command::Run(settings) = Cli::try_parse_from(arguments).unwrap().command else {
            panic!("it is run")
        };
        let line = cluster.connect("operator");
        let context = Context::new(line.client(), Arc::new(*settings), Arc::new(Metrics::new()));
        Self {
            cluster,
            line,
            context,
        }
    }

    fn plain() -> Self {
        Self::new(&json!({}))
    }

    fn read<T: serde::de::DeserializeOwned>(
        &self,
        resource: fake_cluster::Resource,
        name: &str,
    ) -> Option<T> {
        self.cluster
            .get(&Key::new(resource, "", name))
            .map(|object| serde_json::from_value(Value::clone(&object)).unwrap())
    }

    fn observed(&self) -> Observed {
        let states = self
            .read::<WasmRuntimeNode>(WASM_RUNTIME_NODE, "wasmedge.node-a")
            .map(|state| {
                let facts = NodeState {
                    uid: state.uid().unwrap(),
                    node_uid: state.owner_references()[0].uid.clone(),
                    deleting: state.metadata.deletion_timestamp.is_some(),
                    status: state.status.unwrap_or_default(),
                };
                ("node-a".to_owned(), facts)
            });
        Observed {
            now: Timestamp::now(),
            runtime: self
                .read(WASM_RUNTIME, "wasmedge")
                .expect("it is there while it is decided about"),
            peers: Vec::new(),
            nodes: BTreeMap::new(),
            states: states.into_iter().collect(),
            busy: BTreeSet::new(),
            jobs: BTreeMap::new(),
            class: self.read(RUNTIME_CLASS, "wasmedge"),
            installer: crate::plan::tests::installer(),
        }
    }

    async fn act(&self, action: Action) -> Result<Applied, ApplyError> {
        apply(&self.context, &self.observed(), &action).await
    }

    fn node(&self) -> Node {
        self.read(NODE, "node-a").unwrap()
    }

    fn node_uid(&self) -> String {
        self.node().uid().unwrap()
    }

    fn claim(&self) -> Action {
        Action::Claim {
            node: "node-a".to_owned(),
            uid: self.node_uid(),
        }
    }

    fn set(phase: Phase, message: Option<&str>) -> Action {
        let status = WasmRuntimeNodeStatus {
            phase,
            message: message.map(ToOwned::to_owned),
            ..WasmRuntimeNodeStatus::default()
        };
        Action::SetNode {
            node: "node-a".to_owned(),
            status: Box::new(status),
        }
    }

    fn start() -> Action {
        let request = Request {
            verb: Verb::Install,
            runtime: "wasmedge".to_owned(),
            handler: "wasmedge".to_owned(),
            distribution: Distribution::Systemd,
            artifact: None,
            mode: request::ConfigMode::Auto,
            cgroup_driver: request::CgroupDriver::Auto,
            settings: installer_protocol::Settings::default(),
            paths: Paths::default(),
            image: "installer:1".to_owned(),
        };
        Action::StartInstaller {
            job: "installer-1".to_owned(),
            node: "node-a".to_owned(),
            request: Box::new(request),
            timeout: Duration::from_mins(10),
        }
    }

    fn class(&self, spec: &Value) {
        let mut class = json!({ "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
            "metadata": { "name": "wasmedge" }, "handler": "wasmedge" });
        class
            .as_object_mut()
            .unwrap()
            .extend(spec.as_object().unwrap().clone());
        self.cluster.create(class).unwrap();
    }

    fn found_class(&self) -> RuntimeClass {
        self.read(RUNTIME_CLASS, "wasmedge").unwrap()
    }

    fn count(&self) -> usize {
        self.cluster.calls().len()
    }
}

#[tokio::test(start_paused = true)]
async fn finalizer_is_added_once_and_removed_from_between_others() {
    let stage = Stage::plain();
    stage.act(Action::AddFinalizer).await.unwrap();
    stage.act(Action::AddFinalizer).await.unwrap();
    let finalizers = || stage.observed().runtime.finalizers().to_vec();
    assert_eq!(finalizers(), [names::RUNTIME_FINALIZER]);
    let key = Key::new(WASM_RUNTIME, "", "wasmedge");
    stage
        .cluster
        .edit(&key, |runtime| {
            runtime["metadata"]["finalizers"] = json!(["one", names::RUNTIME_FINALIZER, "two"]);
        })
        .unwrap();
    stage.act(Action::ReleaseFinalizer).await.unwrap();
    assert_eq!(finalizers(), ["one", "two"]);
    stage.act(Action::AddFinalizer).await.unwrap();
    assert_eq!(finalizers(), ["one", "two", names::RUNTIME_FINALIZER]);
}

#[tokio::test(start_paused = true)]
async fn deleted_runtime_is_gone_with_its_finalizer() {
    let stage = Stage::plain();
    stage.act(Action::AddFinalizer).await.unwrap();
    stage
        .cluster
        .delete(&Key::new(WASM_RUNTIME, "", "wasmedge"))
        .unwrap();
    let observed = stage.observed();
    for _ in 0..2 {
        let applied = apply(&stage.context, &observed, &Action::ReleaseFinalizer)
            .await
            .unwrap();
        assert!(
            matches!(
                applied,
                Applied::Gone(Gone {
                    kind: Kind::Runtime,
                    ..
                })
            ),
            "{applied:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn finalizer_is_not_added_to_a_changed_list() {
    let stage = Stage::plain();
    let observed = stage.observed();
    let key = Key::new(WASM_RUNTIME, "", "wasmedge");
    stage
        .cluster
        .edit(&key, |runtime| {
            runtime["metadata"]["finalizers"] = json!(["other"]);
        })
        .unwrap();
    let error = apply(&stage.context, &observed, &Action::AddFinalizer)
        .await
        .unwrap_err();
    assert_eq!(error.category(), Category::Conflict, "{}", error.chain());
}

#[tokio::test(start_paused = true)]
async fn runtime_node_is_created_once_written_whole_and_deleted() {
    let stage = Stage::plain();
    stage.act(stage.claim()).await.unwrap();
    stage.act(stage.claim()).await.unwrap();
    stage
        .act(Stage::set(Phase::Failed, Some("why")))
        .await
        .unwrap();
    let applied = stage.act(Stage::set(Phase::Ready, None)).await.unwrap();
    let Applied::RuntimeNode(written) = applied else {
        panic!("{applied:?}")
    };
    let status = written.status.clone().unwrap();
    // Fields that are not applied any more are removed.
    assert_eq!((status.phase, status.message), (Phase::Ready, None));
    assert_eq!(
        (
            written.finalizers(),
            written.owner_references()[0].uid.as_str()
        ),
        (&[names::NODE_FINALIZER.to_owned()][..], &*stage.node_uid())
    );
    let before = stage.count();
    for _ in 0..2 {
        let applied = stage
            .act(Action::Forget {
                node: "node-a".to_owned(),
            })
            .await
            .unwrap();
        assert!(
            matches!(
                applied,
                Applied::Gone(Gone {
                    kind: Kind::RuntimeNode,
                    ..
                })
            ),
            "{applied:?}"
        );
    }
    assert!(
        stage
            .read::<WasmRuntimeNode>(WASM_RUNTIME_NODE, "wasmedge.node-a")
            .is_none()
    );
    assert_eq!(
        stage.count() - before,
        3,
        "two calls, and one that finds nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn runtime_node_of_earlier_node_is_a_conflict() {
    let stage = Stage::plain();
    stage
        .act(Action::Claim {
            node: "node-a".to_owned(),
            uid: "earlier".to_owned(),
        })
        .await
        .unwrap();
    let error = stage.act(stage.claim()).await.unwrap_err();
    assert_eq!(error.category(), Category::Conflict, "{}", error.chain());
}

#[tokio::test(start_paused = true)]
async fn node_status_is_written_only_to_the_observed_object() {
    let stage = Stage::plain();
    stage.act(stage.claim()).await.unwrap();
    let mut observed = stage.observed();
    observed.states.get_mut("node-a").unwrap().uid = "earlier".to_owned();
    let error = apply(&stage.context, &observed, &Stage::set(Phase::Ready, None))
        .await
        .unwrap_err();
    assert_eq!(error.category(), Category::Conflict, "{}", error.chain());
}

#[tokio::test(start_paused = true)]
async fn label_and_unlabel_are_idempotent() {
    let stage = Stage::plain();
    let label = names::ready_label("wasmedge");
    let named = || ("node-a".to_owned(), stage.node_uid());
    for _ in 0..2 {
        let (node, uid) = named();
        stage.act(Action::Label { node, uid }).await.unwrap();
        assert_eq!(
            stage.node().labels().get(&label).map(String::as_str),
            Some(names::READY)
        );
    }
    for _ in 0..2 {
        let (node, uid) = named();
        stage.act(Action::Unlabel { node, uid }).await.unwrap();
        assert_eq!(stage.node().labels().get(&label), None);
    }
    assert!(stage.node().labels().contains_key("kubernetes.io/hostname"));
}

#[tokio::test(start_paused = true)]
async fn later_node_of_same_name_is_not_changed() {
    let stage = Stage::plain();
    let (node, uid) = ("node-a".to_owned(), "earlier".to_owned());
    let taints = vec![StartupTaint {
        key: "starting".to_owned(),
        effect: None,
    }];
    for action in [
        Action::Label {
            node: node.clone(),
            uid: uid.clone(),
        },
        Action::Unlabel {
            node: node.clone(),
            uid: uid.clone(),
        },
        Action::RemoveTaints { node, uid, taints },
    ] {
        let before = stage.node();
        let error = stage.act(action).await.unwrap_err();
        assert_eq!(
            (error.category(), stage.node()),
            (Category::Conflict, before),
            "{}",
            error.chain()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn action_on_deleted_node_is_gone() {
    let stage = Stage::plain();
    let uid = stage.node_uid();
    stage.cluster.delete(&Key::new(NODE, "", "node-a")).unwrap();
    let error = stage
        .act(Action::Label {
            node: "node-a".to_owned(),
            uid,
        })
        .await
        .unwrap_err();
    assert_eq!(error.category(), Category::Gone, "{}", error.chain());
}

#[tokio::test(start_paused = true)]
async fn only_startup_taints_are_removed() {
    for (effect, left) in [
        (None, vec!["gpu"]),
        (Some(TaintEffect::NoExecute), vec!["starting", "gpu"]),
    ] {
        let stage = Stage::plain();
        for _ in 0..2 {
            let taints = vec![StartupTaint {
                key: "starting".to_owned(),
                effect,
            }];
            stage
                .act(Action::RemoveTaints {
                    node: "node-a".to_owned(),
                    uid: stage.node_uid(),
                    taints,
                })
                .await
                .unwrap();
            let found = stage.node().spec.unwrap().taints.unwrap();
            assert_eq!(
                found
                    .iter()
                    .map(|taint| taint.key.as_str())
                    .collect::<Vec<_>>(),
                left
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn job_creation_and_deletion_are_idempotent() {
    let stage = Stage::plain();
    let Applied::Job(first) = stage.act(Stage::start()).await.unwrap() else {
        panic!("it is a Job")
    };
    let Applied::Job(second) = stage.act(Stage::start()).await.unwrap() else {
        panic!("it is a Job")
    };
    assert_eq!(first.uid(), second.uid());
    for _ in 0..2 {
        let applied = stage
            .act(Action::DeleteJob {
                node: None,
                job: "installer-1".to_owned(),
            })
            .await
            .unwrap();
        assert!(
            matches!(
                applied,
                Applied::Gone(Gone {
                    kind: Kind::Job,
                    ..
                })
            ),
            "{applied:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn job_of_another_runtime_is_foreign() {
    let stage = Stage::plain();
    stage.act(Stage::start()).await.unwrap();
    let key = Key::new(JOB, NAMESPACE, "installer-1");
    stage
        .cluster
        .edit(&key, |job| {
            job["metadata"]["annotations"][names::RUNTIME_UID_ANNOTATION] = json!("earlier");
        })
        .unwrap();
    let error = stage.act(Stage::start()).await.unwrap_err();
    assert_eq!(error.category(), Category::Foreign, "{}", error.chain());
}

#[tokio::test(start_paused = true)]
async fn own_runtime_class_is_created_changed_and_deleted() {
    let stage = Stage::plain();
    stage.act(Action::ApplyRuntimeClass).await.unwrap();
    let key = Key::new(RUNTIME_CLASS, "", "wasmedge");
    stage
        .cluster
        .edit(&key, |class| {
            class["overhead"]["podFixed"] = json!({ "cpu": "1", "memory": "1Gi", "storage": "1" });
        })
        .unwrap();
    stage.act(Action::ApplyRuntimeClass).await.unwrap();
    let desired = crate::objects::runtime_class::desired(&stage.observed().runtime);
    assert!(
        crate::objects::runtime_class::matches(&desired, &stage.found_class()),
        "{:?}",
        stage.found_class()
    );
    for _ in 0..2 {
        let applied = stage.act(Action::RemoveRuntimeClass).await.unwrap();
        assert!(
            matches!(
                applied,
                Applied::Gone(Gone {
                    kind: Kind::Class,
                    ..
                })
            ),
            "{applied:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn foreign_runtime_class_is_refused_with_next_step() {
    let stage = Stage::plain();
    stage.class(&json!({ "metadata": { "name": "wasmedge",
        "annotations": { "meta.helm.sh/release-name": "kwasm" } } }));
    let before = stage.found_class();
    let error = stage.act(Action::ApplyRuntimeClass).await.unwrap_err();
    assert_eq!(error.category(), Category::Foreign);
    assert_eq!(
        error.chain(),
        "RuntimeClass wasmedge belongs to the Helm release kwasm: set \
         spec.runtimeClass.adoptExisting, or choose another \
         spec.runtimeClass.name"
    );
    assert_eq!(
        stage
            .act(Action::RemoveRuntimeClass)
            .await
            .unwrap_err()
            .category(),
        Category::Foreign
    );
    assert_eq!(stage.found_class(), before);
}

#[tokio::test(start_paused = true)]
async fn adopted_runtime_class_is_changed_and_restored() {
    let stage = Stage::new(&json!({ "runtimeClass": { "adoptExisting": true } }));
    stage.class(&json!({
        "metadata": { "name": "wasmedge", "labels": { names::MANAGED_BY: "k3s",
        "other": "stays" } },
        "scheduling": { "tolerations": [{ "key": "wasm", "operator": "Exists" }] },
    }));
    let before = stage.found_class();
    stage.act(Action::ApplyRuntimeClass).await.unwrap();
    assert_eq!(
        stage.found_class().uid(),
        before.uid(),
        "pods name it: it is not created again"
    );
    let key = Key::new(WASM_RUNTIME, "", "wasmedge");
    stage
        .cluster
        .update(&key, |runtime| {
            runtime["spec"]["runtimeClass"]["overhead"] = json!({ "cpu": "1" });
        })
        .unwrap();
    stage.act(Action::ApplyRuntimeClass).await.unwrap();
    let amounts = stage.found_class().overhead.unwrap().pod_fixed.unwrap();
    assert_eq!(amounts.len(), 1, "{amounts:?}");
    stage.act(Action::RemoveRuntimeClass).await.unwrap();
    let after = stage.found_class();
    assert_eq!(
        (after.labels(), after.annotations()),
        (before.labels(), before.annotations())
    );
    assert_eq!(
        (after.scheduling, after.overhead),
        (before.scheduling, before.overhead)
    );
}

#[tokio::test(start_paused = true)]
async fn runtime_class_that_changed_since_observation_is_a_conflict() {
    let stage = Stage::plain();
    stage.act(Action::ApplyRuntimeClass).await.unwrap();
    let observed = stage.observed();
    let key = Key::new(RUNTIME_CLASS, "", "wasmedge");
    stage
        .cluster
        .edit(&key, |class| {
            class["overhead"] = json!({ "podFixed": { "cpu": "2" } });
        })
        .unwrap();
    for action in [Action::RemoveRuntimeClass, Action::ApplyRuntimeClass] {
        let mut observed = observed.clone();
        observed.runtime.spec.runtime_class.tolerations =
            vec![k8s_openapi::api::core::v1::Toleration::default()];
        let error = apply(&stage.context, &observed, &action).await.unwrap_err();
        assert_eq!(
            error.category(),
            Category::Conflict,
            "{action:?}: {}",
            error.chain()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn runtime_status_is_written_only_to_the_observed_object() {
    let stage = Stage::plain();
    let status = WasmRuntimeStatus {
        state: "Up to date".to_owned(),
        ..WasmRuntimeStatus::default()
    };
    let mut runtime = stage.observed().runtime;
    write_status(&stage.context, &runtime, &status)
        .await
        .unwrap();
    assert_eq!(stage.observed().runtime.status, Some(status.clone()));
    runtime.metadata.uid = Some("earlier".to_owned());
    assert_eq!(
        write_status(&stage.context, &runtime, &status)
            .await
            .unwrap_err()
            .category(),
        Category::Conflict
    );
}

#[tokio::test(start_paused = true)]
async fn api_errors_are_categorized() {
    let stage = Stage::plain();
    for (faults, expected) in [
        (
            Faults {
                broken: 1.0,
                ..Faults::default()
            },
            Category::Unavailable,
        ),
        (
            Faults {
                throttled: 1.0,
                ..Faults::default()
            },
            Category::Throttled,
        ),
        (
            Faults {
                lost: 1.0,
                ..Faults::default()
            },
            Category::Unavailable,
        ),
        (
            Faults {
                slow: 1.0,
                slowness: Duration::from_hours(1),
                ..Faults::default()
            },
            Category::Unavailable,
        ),
    ] {
        stage.line.set_faults(faults.clone());
        let error = stage.act(stage.claim()).await.unwrap_err();
        assert_eq!(error.category(), expected, "{faults:?}: {}", error.chain());
        assert!(
            error
                .chain()
                .starts_with("cannot create WasmRuntimeNode wasmedge.node-a: "),
            "{}",
            error.chain()
        );
    }
}
