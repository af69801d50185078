//! Labels and taints of nodes. Other clients write nodes too, so every write names the node by uid
//! and changes one field.

use k8s_openapi::api::core::v1::{Node, Taint};
use kube::api::PatchParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::{Applied, ApplyError, call, call_patch, escaped, json_patch};
use crate::context::Context;
use crate::crd::{StartupTaint, TaintEffect};
use crate::error::{Category, Cause};
use crate::names;

pub(super) async fn label(
    context: &Context,
    runtime: &str,
    node: &str,
    uid: &str,
) -> Result<Applied, ApplyError> {
    let path = format!("/metadata/labels/{}", escaped(&names::ready_label(runtime)));
    let change = json!([
        { "op": "test", "path": "/metadata/uid", "value": uid },
        { "op": "add", "path": path, "value": names::READY },
    ]);
    patch(context, node, "label", &change).await
}

pub(super) async fn unlabel(
    context: &Context,
    runtime: &str,
    node: &str,
    uid: &str,
) -> Result<Applied, ApplyError> {
    let path = format!("/metadata/labels/{}", escaped(&names::ready_label(runtime)));
    let change = json!([
        { "op": "test", "path": "/metadata/uid", "value": uid },
        // Removing a field that does not exist is an error, so it is added first.
        { "op": "add", "path": path, "value": "" },
        { "op": "remove", "path": path },
    ]);
    patch(context, node, "remove the readiness label from", &change).await
}

pub(super) async fn remove_taints(
    context: &Context,
    node: &str,
    uid: &str,
    taints: &[StartupTaint],
) -> Result<Applied, ApplyError> {
    let api = Api::<Node>::all(context.client.clone());
    let found = call(|| format!("read Node {node}"), api.get(node)).await?;
    if found.uid().as_deref() != Some(uid) {
        return Err(replaced(node));
    }
    let before = found
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    let after: Vec<&Taint> = before
        .iter()
        .filter(|taint| !taints.iter().any(|startup| matches(startup, taint)))
        .collect();
    if after.len() == before.len() {
        return Ok(Applied::Node(Box::new(found)));
    }
    // Members of a list have no names: the patch tests and replaces the whole list.
    let change = json!([
        { "op": "test", "path": "/metadata/uid", "value": uid },
        { "op": "test", "path": "/spec/taints", "value": before },
        { "op": "replace", "path": "/spec/taints", "value": after },
    ]);
    patch(context, node, "remove startup taints from", &change).await
}

fn matches(startup: &StartupTaint, taint: &Taint) -> bool {
    let effect = startup.effect.map(|effect| match effect {
        TaintEffect::NoSchedule => "NoSchedule",
        TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        TaintEffect::NoExecute => "NoExecute",
    });
    startup.key == taint.key && effect.is_none_or(|effect| effect == taint.effect)
}

fn replaced(node: &str) -> ApplyError {
    let status = kube::core::Status::failure(
        "the node was replaced by another one of that name",
        "Conflict",
    )
    .with_code(409);
    ApplyError::Api {
        operation: format!("remove startup taints from Node {node}"),
        category: Category::Conflict,
        source: Cause::Refusal(status.boxed()),
    }
}

async fn patch(
    context: &Context,
    node: &str,
    verb: &str,
    change: &Value,
) -> Result<Applied, ApplyError> {
    let api = Api::<Node>::all(context.client.clone());
    let (params, change) = (
        PatchParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PatchParams::default()
        },
        json_patch(change),
    );
    let written = call_patch(
        || format!("{verb} Node {node}"),
        api.patch(node, &params, &change),
    )
    .await?;
    Ok(Applied::Node(Box::new(written)))
}
