//! Tests of the fake server with kube's client, watcher and finalizer, which expect the answers of
//! Kubernetes.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::core::dynamic::{ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cluster::Moment;
use crate::resource::{self, JOB, NODE, POD};
use crate::{Cluster, Connection, Faults, Key};

fn node(name: &str, labels: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": labels },
        "status": { "phase": "x" } })
}

fn start() -> (Cluster, Connection) {
    let cluster = Cluster::start();
    let connection = cluster.connect("operator");
    (cluster, connection)
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("no answer of the server: {other}"),
    }
}

fn runtimes(connection: &Connection) -> Api<DynamicObject> {
    let kind = resource::WASM_RUNTIME;
    let resource = ApiResource {
        group: kind.group.to_owned(),
        version: kind.version.to_owned(),
        api_version: kind.api_version(),
        kind: kind.kind.to_owned(),
        plural: kind.plural.to_owned(),
    };
    Api::all_with(connection.client(), &resource)
}

fn runtime(name: &str, spec: &Value) -> DynamicObject {
    serde_json::from_value(
        json!({ "apiVersion": "runtime.wasmedge.dev/v1alpha1", "kind": "WasmRuntime",
        "metadata": { "name": name }, "spec": spec, "status": { "state": "invented" } }),
    )
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn object_is_created_read_and_deleted() {
    let (_cluster, connection) = start();
    let nodes: Api<Node> = Api::all(connection.client());
    assert_eq!(code(&nodes.get("a").await.unwrap_err()), 404);
    let created = nodes
        .create(
            &PostParams::default(),
            &serde_json::from_value(node("a", &json!({}))).unwrap(),
        )
        .await
        .unwrap();
    assert!(
        created.uid().is_some()
            && created.resource_version().is_some()
            && created.creation_timestamp().is_some()
    );
    let again = nodes
        .create(
            &PostParams::default(),
            &serde_json::from_value(node("a", &json!({}))).unwrap(),
        )
        .await
        .unwrap_err();
    assert_eq!(code(&again), 409);
    assert!(matches!(again, kube::Error::Api(status) if status.is_already_exists()));
    let other = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some("x".to_owned()),
            ..Preconditions::default()
        }),
        ..DeleteParams::default()
    };
    assert_eq!(code(&nodes.delete("a", &other).await.unwrap_err()), 409);
    nodes.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(
        code(
            &nodes
                .delete("a", &DeleteParams::default())
                .await
                .unwrap_err()
        ),
        404
    );
}

#[tokio::test(start_paused = true)]
async fn update_with_old_resource_version_is_a_conflict() {
    let (cluster, connection) = start();
    cluster.create(node("a", &json!({}))).unwrap();
    let nodes: Api<Node> = Api::all(connection.client());
    let mut old = nodes.get("a").await.unwrap();
    cluster
        .edit(&Key::new(NODE, "", "a"), |node| {
            node["spec"]["unschedulable"] = true.into();
        })
        .unwrap();
    old.labels_mut().insert("x".to_owned(), "y".to_owned());
    assert!(
        matches!(nodes.replace("a", &PostParams::default(), &old).await.unwrap_err(),
            kube::Error::Api(status) if status.is_conflict())
    );
    let patch = json!({ "metadata": { "resourceVersion": old.resource_version(),
        "labels": { "x": "y" } } });
    assert_eq!(
        code(
            &nodes
                .patch("a", &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .unwrap_err()
        ),
        409
    );
}

#[tokio::test(start_paused = true)]
async fn status_is_written_by_subresource_only_and_generation_ignores_it() {
    let (_cluster, connection) = start();
    let api = runtimes(&connection);
    let created = api
        .create(&PostParams::default(), &runtime("r", &json!({ "a": 1 })))
        .await
        .unwrap();
    assert!(created.data.get("status").is_none());
    assert_eq!(created.metadata.generation, Some(1));
    let status = json!({ "spec": { "a": 2 }, "status": { "state": "x" } });
    let after = api
        .patch_status("r", &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap();
    assert_eq!(
        (&after.data["spec"]["a"], &after.data["status"]["state"]),
        (&json!(1), &json!("x"))
    );
    assert_eq!(after.metadata.generation, Some(1));
    let main = json!({ "spec": { "a": 3 }, "status": { "state": "y" } });
    let after = api
        .patch("r", &PatchParams::default(), &Patch::Merge(&main))
        .await
        .unwrap();
    assert_eq!(
        (&after.data["spec"]["a"], &after.data["status"]["state"]),
        (&json!(3), &json!("x"))
    );
    assert_eq!(after.metadata.generation, Some(2));
}

#[tokio::test(start_paused = true)]
async fn write_without_changes_keeps_resource_version() {
    let (cluster, connection) = start();
    cluster.create(node("a", &json!({ "x": "y" }))).unwrap();
    let nodes: Api<Node> = Api::all(connection.client());
    let version = nodes.get("a").await.unwrap().resource_version();
    let applied = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "a",
        "labels": { "x": "y" } } });
    let after = nodes
        .patch("a", &PatchParams::apply("us"), &Patch::Apply(&applied))
        .await
        .unwrap();
    assert_eq!(after.resource_version(), version);
}

#[tokio::test(start_paused = true)]
async fn apply_creates_missing_object_unless_it_names_a_uid() {
    let (_cluster, connection) = start();
    let nodes: Api<Node> = Api::all(connection.client());
    let mut applied = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "a",
        "uid": "u", "labels": { "x": "y" } } });
    let parameters = PatchParams::apply("us").force();
    assert_eq!(
        code(
            &nodes
                .patch("a", &parameters, &Patch::Apply(&applied))
                .await
                .unwrap_err()
        ),
        409
    );
    applied["metadata"].as_object_mut().unwrap().remove("uid");
    assert_eq!(
        nodes
            .patch("a", &parameters, &Patch::Apply(&applied))
            .await
            .unwrap()
            .labels()["x"],
        "y"
    );
    applied["metadata"]["uid"] = "another".into();
    assert_eq!(
        code(
            &nodes
                .patch("a", &parameters, &Patch::Apply(&applied))
                .await
                .unwrap_err()
        ),
        422
    );
    assert_eq!(
        code(
            &nodes
                .patch("a", &PatchParams::default(), &Patch::Apply(&applied))
                .await
                .unwrap_err()
        ),
        400
    );
}

#[tokio::test(start_paused = true)]
async fn json_patch_with_failed_test_is_refused() {
    let (cluster, connection) = start();
    cluster.create(node("a", &json!({ "x": "y" }))).unwrap();
    let nodes: Api<Node> = Api::all(connection.client());
    let patch = |value: &str| -> json_patch::Patch {
        serde_json::from_value(json!([
            { "op": "test", "path": "/metadata/labels/x", "value": value }, { "op": "remove",
            "path": "/metadata/labels/x" },
        ]))
        .unwrap()
    };
    let refused = nodes
        .patch("a", &PatchParams::default(), &Patch::Json::<()>(patch("z")))
        .await
        .unwrap_err();
    assert_eq!(code(&refused), 422);
    let after = nodes
        .patch("a", &PatchParams::default(), &Patch::Json::<()>(patch("y")))
        .await
        .unwrap();
    assert!(after.labels().is_empty());
}

#[tokio::test(start_paused = true)]
async fn immutable_fields_cannot_be_changed() {
    let (cluster, connection) = start();
    cluster
        .create(
            json!({ "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
        "metadata": { "name": "w" }, "handler": "a" }),
        )
        .unwrap();
    let classes: Api<RuntimeClass> = Api::all(connection.client());
    let refused = classes
        .patch(
            "w",
            &PatchParams::default(),
            &Patch::Merge(json!({ "handler": "b" })),
        )
        .await
        .unwrap_err();
    assert_eq!(code(&refused), 422);
    for (name, value) in [
        ("a".repeat(64), "x".to_owned()),
        ("a".to_owned(), "b".repeat(64)),
        ("a".to_owned(), "-".to_owned()),
    ] {
        let labels = BTreeMap::from([(name, value)]);
        let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
        assert_eq!(
            code(
                &classes
                    .patch("w", &PatchParams::default(), &patch)
                    .await
                    .unwrap_err()
            ),
            422,
            "{labels:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn object_is_deleted_with_its_last_finalizer() {
    let (_cluster, connection) = start();
    let api = runtimes(&connection);
    api.create(&PostParams::default(), &runtime("r", &json!({})))
        .await
        .unwrap();
    let patch =
        |finalizers: &[&str]| Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
    api.patch("r", &PatchParams::default(), &patch(&["a/b"]))
        .await
        .unwrap();
    api.delete("r", &DeleteParams::default()).await.unwrap();
    let deleting = api.get("r").await.unwrap();
    assert!(deleting.metadata.deletion_timestamp.is_some());
    let late = api
        .patch("r", &PatchParams::default(), &patch(&["a/b", "c/d"]))
        .await
        .unwrap_err();
    assert_eq!(code(&late), 422);
    api.patch("r", &PatchParams::default(), &patch(&[]))
        .await
        .unwrap();
    assert_eq!(code(&api.get("r").await.unwrap_err()), 404);
}

#[tokio::test(start_paused = true)]
async fn owned_objects_are_deleted_with_owner_and_pods_of_job_on_request() {
    for (options, pods_left) in [
        (DeleteParams::default(), 1),
        (DeleteParams::background(), 0),
        (DeleteParams::foreground(), 0),
    ] {
        let (cluster, connection) = start();
        let job = cluster
            .create(json!({ "apiVersion": "batch/v1", "kind": "Job",
                "metadata": { "name": "j", "namespace": "s" } }))
            .unwrap();
        let owner = json!({ "apiVersion": "batch/v1", "kind": "Job", "name": "j",
            "uid": job["metadata"]["uid"] });
        cluster
            .create(
                json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p",
                "namespace": "s", "ownerReferences": [owner] } }),
            )
            .unwrap();
        let jobs: Api<Job> = Api::namespaced(connection.client(), "s");
        jobs.delete("j", &options).await.unwrap();
        assert!(
            cluster.get(&Key::new(JOB, "s", "j")).is_none(),
            "{options:?}"
        );
        assert_eq!(cluster.all(POD).len(), pods_left, "{options:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn long_list_is_paged_at_one_version() {
    let (cluster, connection) = start();
    for n in 0..25 {
        cluster
            .create(node(
                &format!("n{n:02}"),
                &json!({ "even": (n % 2 == 0).to_string() }),
            ))
            .unwrap();
    }
    let nodes: Api<Node> = Api::all(connection.client());
    let first = nodes.list(&ListParams::default().limit(10)).await.unwrap();
    assert_eq!(
        (first.items.len(), first.metadata.remaining_item_count),
        (10, Some(15))
    );
    cluster.delete(&Key::new(NODE, "", "n15")).unwrap();
    let token = first.metadata.continue_.unwrap();
    let second = nodes
        .list(&ListParams::default().continue_token(&token))
        .await
        .unwrap();
    assert_eq!(
        (second.items.len(), second.metadata.resource_version),
        (15, first.metadata.resource_version)
    );
    assert_eq!(
        nodes
            .list(&ListParams::default().labels("even=true"))
            .await
            .unwrap()
            .items
            .len(),
        13
    );
    let names: Vec<PartialObjectMeta<Node>> = nodes
        .list_metadata(&ListParams::default().fields("metadata.name=n03"))
        .await
        .unwrap()
        .items;
    assert_eq!(
        names
            .iter()
            .map(kube::ResourceExt::name_any)
            .collect::<Vec<_>>(),
        ["n03"]
    );
}

/// Returns the first events of a watcher, as text.
async fn events(
    stream: impl futures::Stream<Item = watcher::Result<Event<Node>>>,
    count: usize,
) -> Vec<String> {
    let words = stream
        .map_ok(|event| event.to_string())
        .filter_map(|event| async { event.ok() })
        .take(count)
        .collect();
    timeout(Duration::from_hours(1), words)
        .await
        .expect("a watcher sees what happens")
}

#[tokio::test(start_paused = true)]
async fn watcher_gets_existing_objects_and_every_change() {
    for config in [
        watcher::Config::default(),
        watcher::Config::default().streaming_lists(),
    ] {
        let (cluster, connection) = start();
        cluster.create(node("a", &json!({ "pool": "x" }))).unwrap();
        cluster.create(node("b", &json!({}))).unwrap();
        let test = cluster.clone();
        let seen = tokio::spawn(events(
            watcher(Api::all(connection.client()), config.labels("pool=x")),
            6,
        ));
        tokio::time::sleep(Duration::from_secs(1)).await;
        test.create(node("c", &json!({}))).unwrap();
        let pool = |value: Value| {
            move |node: &mut Value| node["metadata"]["labels"] = json!({ "pool": value })
        };
        test.edit(&Key::new(NODE, "", "c"), pool(json!("x")))
            .unwrap();
        // An object that stops to match the selector is deleted for the watcher.
        test.edit(&Key::new(NODE, "", "a"), pool(json!("y")))
            .unwrap();
        test.delete(&Key::new(NODE, "", "c")).unwrap();
        assert_eq!(
            seen.await.unwrap(),
            [
                "Init",
                "InitApply(a)",
                "InitDone",
                "Apply(c)",
                "Delete(a)",
                "Delete(c)"
            ]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn watcher_misses_nothing_when_watches_end_expire_or_lag() {
    for seed in 0..20 {
        let (cluster, connection) = start();
        cluster.create(node("a", &json!({}))).unwrap();
        connection.set_faults(Faults {
            watch_ends: 0.3,
            watch_expires: 0.2,
            event_delay: Duration::from_secs(5),
            ..Faults::chaos(seed)
        });
        let (reader, writer) = kube::runtime::reflector::store();
        let config = watcher::Config::default().any_semantic();
        let reflector = kube::runtime::reflector(
            writer,
            watcher(Api::<Node>::all(connection.client()), config),
        );
        let reflector = kube::runtime::WatchStreamExt::default_backoff(reflector);
        let task = tokio::spawn(reflector.for_each(|_| async {}));
        for n in 0..60 {
            if n == 30 {
                cluster.store().compact();
                connection.end_watches();
            }
            let label =
                move |node: &mut Value| node["metadata"]["labels"] = json!({ "n": n.to_string() });
            cluster.edit(&Key::new(NODE, "", "a"), label).unwrap();
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let last = async {
            while !reader
                .state()
                .iter()
                .any(|node| node.labels().get("n").is_some_and(|n| n == "59"))
            {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        timeout(Duration::from_mins(30), last)
            .await
            .unwrap_or_else(|_| panic!("seed {seed}: the last change never came"));
        task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn connection_is_cut_at_the_given_write() {
    for (moment, there) in [(Moment::Before, false), (Moment::After, true)] {
        let (cluster, connection) = start();
        let nodes: Api<Node> = Api::all(connection.client());
        let cut = connection.cut_at_write(2, moment);
        let writes = tokio::spawn(async move {
            for name in ["a", "b", "c"] {
                let object = serde_json::from_value(node(name, &json!({}))).unwrap();
                nodes.create(&PostParams::default(), &object).await.unwrap();
            }
        });
        cut.await.unwrap();
        tokio::time::sleep(Duration::from_secs(10_000)).await;
        assert!(!writes.is_finished());
        writes.abort();
        assert_eq!(cluster.get(&Key::new(NODE, "", "b")).is_some(), there);
        assert!(cluster.get(&Key::new(NODE, "", "c")).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn same_seed_causes_same_faults() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let (cluster, connection) = start();
        connection.set_faults(Faults {
            lost: 0.2,
            broken: 0.2,
            answer_lost: 0.2,
            ..Faults::chaos(7)
        });
        let pods: Api<Pod> = Api::namespaced(connection.client(), "s");
        let mut outcomes = Vec::new();
        for _ in 0..100 {
            outcomes.push(pods.list(&ListParams::default()).await.is_ok());
        }
        runs.push((
            outcomes,
            cluster
                .calls()
                .iter()
                .map(|call| call.code)
                .collect::<Vec<_>>(),
        ));
    }
    assert_eq!(runs[0], runs[1]);
    assert!(runs[0].0.contains(&true) && runs[0].0.contains(&false));
}

#[tokio::test(start_paused = true)]
async fn kube_finalizer_helper_works_on_fake_server() {
    use kube::runtime::finalizer::{Event, finalizer};
    let (cluster, connection) = start();
    let api: Api<RuntimeClass> = Api::all(connection.client());
    cluster
        .create(
            json!({ "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
        "metadata": { "name": "w" }, "handler": "a" }),
        )
        .unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let Some(object) = api.get_opt("w").await.unwrap() else {
            break;
        };
        let deleting = object.meta().deletion_timestamp.is_some();
        let step = finalizer(&api, "ours/x", object.into(), |event| async move {
            Ok::<_, std::io::Error>(kube::runtime::controller::Action::requeue(match event {
                Event::Apply(_) => Duration::from_secs(1),
                Event::Cleanup(_) => Duration::from_secs(2),
            }))
        });
        step.await.unwrap();
        seen.push(deleting);
        if seen.len() == 1 {
            api.delete("w", &DeleteParams::default()).await.unwrap();
        }
    }
    assert_eq!(seen, [false, true]);
    assert!(
        cluster
            .get(&Key::new(resource::RUNTIME_CLASS, "", "w"))
            .is_none()
    );
}
