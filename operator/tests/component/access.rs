//! Tests that the operator uses only its rights.

use std::collections::BTreeSet;
use std::time::Duration;

use fake_cluster::Script;
use fake_cluster::resource::NODE;
use serde_json::json;
use tokio::time::sleep;
use wasmedge_operator::access::{Call, OPERATOR, allows};

use crate::context::NAMESPACE;
use crate::fixture::{Fixture, pooled};
use crate::leader::Replica;

#[tokio::test(start_paused = true)]
async fn every_api_call_of_the_operator_is_in_its_table_of_rights() {
    let fixture = Fixture::empty();
    fixture.fleet.join(pooled("a").taint("startup"));
    fixture
        .fleet
        .join(pooled("b").script([Script::cannot_download(), Script::Dies]));
    fixture
        .fleet
        .join(pooled("c").script([Script::unsupported()]));
    fixture
        .fleet
        .join(pooled("d").script([Script::rolls_back()]));
    let class = json!({ "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
        "metadata": { "name": "adopted" }, "handler": "adopted" });
    fixture.cluster.create(class).unwrap();
    let first = Replica::start(&fixture, "first");
    fixture.install(
        "wasmedge",
        &json!({ "startupTaints": [{ "key": "startup" }], "rollout": { "failureThreshold": 9 } }),
    );
    fixture.install(
        "adopted",
        &json!({ "runtimeClass": { "adoptExisting": true } }),
    );
    fixture
        .until("wasmedge", &["a", "b"], "Ready labelled")
        .await;
    first.kill();
    let second = Replica::start(&fixture, "second");
    fixture.fleet.reboot("a", Duration::from_secs(30)).await;
    fixture.fleet.lose_handler("b", "wasmedge");
    fixture
        .cluster
        .update(&fake_cluster::Key::new(NODE, "", "a"), |node| {
            node["metadata"]["labels"]["pool"] = "other".into();
        })
        .unwrap();
    fixture.until("wasmedge", &["a"], "none").await;
    for runtime in ["wasmedge", "adopted"] {
        fixture.uninstall(runtime);
    }
    for runtime in ["wasmedge", "adopted"] {
        fixture.until_gone(runtime).await;
    }
    second.stop().await;
    sleep(Duration::from_mins(1)).await;
    assert_covered(&fixture);
}

fn assert_covered(fixture: &Fixture) {
    let mut used = BTreeSet::new();
    let calls = fixture.cluster.calls();
    for call in calls.iter().filter(|call| call.by.starts_with("operator")) {
        let target = &call.target;
        // A creation by POST has no object name for the authorizer.
        let name = if target.verb.as_str() == "create" {
            ""
        } else {
            &target.name
        };
        let asked = Call {
            verb: target.verb.as_str(),
            group: target.resource.group,
            resource: target.resource.plural,
            subresource: &target.subresource,
            namespace: &target.namespace,
            name,
        };
        assert!(allows(OPERATOR, &asked, NAMESPACE), "no right to {asked:?}");
        used.insert((call.what(), asked.verb));
    }
    let given = OPERATOR.iter().flat_map(|right| {
        right
            .verbs
            .iter()
            .map(move |verb| (right.group, right.resource, *verb))
    });
    let unused: Vec<String> = given
        .filter(|(group, resource, verb)| {
            let (plural, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            !calls.iter().any(|call| {
                let target = &call.target;
                (
                    target.resource.group,
                    target.resource.plural,
                    target.subresource.as_str(),
                    target.verb.as_str(),
                ) == (*group, plural, subresource, *verb)
            })
        })
        .map(|(group, resource, verb)| format!("{verb} {resource}.{group}"))
        .collect();
    println!(
        "{} kinds of calls; rights that this life did not use: {unused:?}",
        used.len()
    );
}
