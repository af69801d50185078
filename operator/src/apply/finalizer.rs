//! The finalizer of a WasmRuntime: it keeps the object until every node with the runtime is clean.

use kube::api::PatchParams;
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::{Applied, ApplyError, Gone, Kind, call_patch, json_patch};
use crate::context::Context;
use crate::crd::WasmRuntime;
use crate::names;

pub(super) async fn add(context: &Context, runtime: &WasmRuntime) -> Result<Applied, ApplyError> {
    if runtime
        .finalizers()
        .iter()
        .any(|name| name == names::RUNTIME_FINALIZER)
    {
        return Ok(Applied::Runtime(Box::new(runtime.clone())));
    }
    // The API server accepts duplicates, so the patch tests that the list is the one that was read.
    let change = if runtime.finalizers().is_empty() {
        json!([
            { "op": "test", "path": "/metadata/uid", "value": runtime.uid() },
            { "op": "test", "path": "/metadata/finalizers", "value": null },
            { "op": "add", "path": "/metadata/finalizers", "value": [names::RUNTIME_FINALIZER] },
        ])
    } else {
        json!([
            { "op": "test", "path": "/metadata/uid", "value": runtime.uid() },
            { "op": "test", "path": "/metadata/finalizers", "value": runtime.finalizers() },
            { "op": "add", "path": "/metadata/finalizers/-", "value": names::RUNTIME_FINALIZER },
        ])
    };
    patch(context, runtime, "add the finalizer to", change).await
}

pub(super) async fn release(
    context: &Context,
    runtime: &WasmRuntime,
) -> Result<Applied, ApplyError> {
    let Some(index) = runtime
        .finalizers()
        .iter()
        .position(|name| name == names::RUNTIME_FINALIZER)
    else {
        return Ok(Applied::Runtime(Box::new(runtime.clone())));
    };
    let path = format!("/metadata/finalizers/{index}");
    let change = json!([
        { "op": "test", "path": "/metadata/uid", "value": runtime.uid() },
        { "op": "test", "path": path, "value": names::RUNTIME_FINALIZER },
        { "op": "remove", "path": path },
    ]);
    match patch(context, runtime, "remove the finalizer from", change).await {
        // The object was kept only by this finalizer.
        Ok(Applied::Runtime(left))
            if left.meta().deletion_timestamp.is_some() && left.finalizers().is_empty() =>
        {
            Ok(gone(runtime))
        }
        Err(ApplyError::Api {
            category: crate::error::Category::Gone,
            ..
        }) => Ok(gone(runtime)),
        other => other,
    }
}

async fn patch(
    context: &Context,
    runtime: &WasmRuntime,
    verb: &str,
    change: serde_json::Value,
) -> Result<Applied, ApplyError> {
    let name = runtime.name_any();
    let api = Api::<WasmRuntime>::all(context.client.clone());
    let (params, change) = (
        PatchParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PatchParams::default()
        },
        json_patch(&change),
    );
    let written = call_patch(
        || format!("{verb} WasmRuntime {name}"),
        api.patch(&name, &params, &change),
    )
    .await?;
    Ok(Applied::Runtime(Box::new(written)))
}

fn gone(runtime: &WasmRuntime) -> Applied {
    Applied::Gone(Gone {
        kind: Kind::Runtime,
        name: runtime.name_any(),
        uid: runtime.uid(),
    })
}
