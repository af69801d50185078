//! Tests of the plan: single steps as tables, whole rollouts as properties of random clusters.

use std::collections::{BTreeMap, BTreeSet};

use installer_protocol::report::{ContainerdFacts, Installed, Restart};
use installer_protocol::{Distribution, Outcome, Reason, Report, Request, Stage, Verb};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::*;
use crate::crd::{Arch, Phase, WasmRuntime};
use crate::names;
use crate::objects::runtime_class;

#[path = "tests/model.rs"]
mod model;
#[path = "tests/steps.rs"]
mod steps;
#[path = "tests/failures.rs"]
mod failures;
#[path = "tests/blocked.rs"]
mod blocked;
#[path = "tests/properties.rs"]
mod properties;

/// Returns a runtime `name` with this spec, as a cluster has it.
fn runtime(name: &str, spec: &Value) -> WasmRuntime {
    let object = json!({
        "apiVersion": "runtime.wasmedge.dev/v1alpha1",
        "kind": "WasmRuntime",
        "metadata": { "name": name, "uid": format!("uid-of-{name}"), "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

/// Returns a Ready node on which containerd serves `handlers`.
fn node(handlers: &[&str]) -> NodeFacts {
    NodeFacts {
        uid: "uid".to_owned(),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        readiness: Readiness::Ready,
        leaving: false,
        arch: Some(Arch::Amd64),
        os: "linux".to_owned(),
        handlers: Handlers::Listed(
            handlers
                .iter()
                .map(|handler| (*handler).to_owned())
                .collect(),
        ),
        boot_id: "boot".to_owned(),
        distribution: Distribution::Systemd,
    }
}

/// Returns a report; `kept` is the version that the node has.
fn report(outcome: Outcome, reason: Reason, kept: Option<&str>) -> Report {
    Report {
        outcome,
        stage: Stage::Verify,
        reason,
        message: format!("because of {}", reason.as_str()),
        containerd: ContainerdFacts::default(),
        installed: kept.map(|version| Installed {
            version: version.to_owned(),
            sha256: "0".repeat(64),
            path: "/opt".to_owned(),
        }),
        restart: Restart::Done,
    }
}

/// Returns the settings of installers.
pub(crate) fn installer() -> InstallerFacts {
    InstallerFacts {
        image: "installer:1".to_owned(),
        architectures: vec![Arch::Amd64],
        digest: "1".to_owned(),
    }
}

/// Returns the time `seconds` after the start of the tests.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}
