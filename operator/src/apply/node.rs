//! Labels and taints of nodes. Many others write nodes too, so every write names the node by uid
//! and changes one thing.

use k8s_openapi::api::core::v1::{Node, Taint};
use kube::api::PatchParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::{Applied, ApplyError, ask, ask_patch, escaped, json_patch};
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
        // To remove what is not there is an error; what was just added is there.
        { "op": "add", "path": path, "value": "" },
        { "op": "remove", "path": path },
    ]);
    patch(context, node, "take the label off", &change).await
}

pub(super) async fn remove_taints(
    context: &Context,
    node: &str,
    uid: &str,
    taints: &[StartupTaint],
) -> Result<Applied, ApplyError> {
    let api = Api::<Node>::all(context.client.clone());
    let found = ask(|| format!("read Node {node}"), api.get(node)).await?;
    if found.uid().as_deref() != Some(uid) {
        return Err(another(node));
    }
    let before = found
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    let after: Vec<&Taint> = before
        .iter()
        .filter(|taint| !taints.iter().any(|startup| is_meant(startup, taint)))
        .collect();
    if after.len() == before.len() {
        return Ok(Applied::Node(Box::new(found)));
    }
    // A list has no names for its members: the whole of it is what was read, or the patch is
    // refused.
    let change = json!([
        { "op": "test", "path": "/metadata/uid", "value": uid },
        { "op": "test", "path": "/spec/taints", "value": before },
        { "op": "replace", "path": "/spec/taints", "value": after },
    ]);
    patch(context, node, "take startup taints off", &change).await
}

fn is_meant(startup: &StartupTaint, taint: &Taint) -> bool {
    let effect = startup.effect.map(|effect| match effect {
        TaintEffect::NoSchedule => "NoSchedule",
        TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        TaintEffect::NoExecute => "NoExecute",
    });
    startup.key == taint.key && effect.is_none_or(|effect| effect == taint.effect)
}

fn another(node: &str) -> ApplyError {
    let status = kube::core::Status::failure("there is another node of that name now", "Conflict")
        .with_code(409);
    ApplyError::Api {
        operation: format!("take startup taints off Node {node}"),
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
    let written = ask_patch(
        || format!("{verb} Node {node}"),
        api.patch(node, &params, &change),
    )
    .await?;
    Ok(Applied::Node(Box::new(written)))
}
