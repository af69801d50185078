//! The WasmRuntimeNode: the status of a runtime on a node. Only the operator creates, writes and
//! deletes these.

use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::{Applied, ApplyError, Gone, Kind, call, call_patch, json_patch};
use crate::context::Context;
use crate::crd::{WasmRuntimeNode, WasmRuntimeNodeStatus};
use crate::error::Category;
use crate::names;
use crate::objects::runtime_node::runtime_node;

pub(super) async fn claim(
    context: &Context,
    runtime: &str,
    node: &str,
    node_uid: &str,
) -> Result<Applied, ApplyError> {
    let object = runtime_node(runtime, node, node_uid);
    let name = object.name_any();
    let api = Api::<WasmRuntimeNode>::all(context.client.clone());
    let params = PostParams {
        field_manager: Some(names::MANAGER.to_owned()),
        ..PostParams::default()
    };
    match call(
        || format!("create WasmRuntimeNode {name}"),
        api.create(&params, &object),
    )
    .await
    {
        Err(
            conflict @ ApplyError::Api {
                category: Category::Conflict,
                ..
            },
        ) => {
            let found = call(|| format!("read WasmRuntimeNode {name}"), api.get(&name)).await?;
            let is_same = found.spec == object.spec
                && found
                    .owner_references()
                    .iter()
                    .any(|owner| owner.uid == node_uid);
            // An object of an earlier node, or one that is being deleted, has to be gone first.
            if is_same && found.meta().deletion_timestamp.is_none() {
                Ok(written(found))
            } else {
                Err(conflict)
            }
        }
        created => created.map(written),
    }
}

pub(super) async fn set(
    context: &Context,
    runtime: &str,
    node: &str,
    uid: Option<&str>,
    status: &WasmRuntimeNodeStatus,
) -> Result<Applied, ApplyError> {
    let name = names::runtime_node(runtime, node);
    let api = Api::<WasmRuntimeNode>::all(context.client.clone());
    let mut metadata = json!({ "name": name });
    if let Some(uid) = uid {
        metadata["uid"] = json!(uid);
    }
    let object = json!({
        "apiVersion": WasmRuntimeNode::api_version(&()),
        "kind": WasmRuntimeNode::kind(&()),
        "metadata": metadata,
        "status": status,
    });
    let params = PatchParams::apply(names::MANAGER).force();
    let change = Patch::Apply(&object);
    let object = call_patch(
        || format!("write the status of WasmRuntimeNode {name}"),
        api.patch_status(&name, &params, &change),
    )
    .await?;
    Ok(written(object))
}

/// Reads the object of this name; none if it does not exist.
///
/// # Errors
/// If it was not read.
pub async fn read_runtime_node(
    context: &Context,
    name: &str,
) -> Result<Option<WasmRuntimeNode>, ApplyError> {
    let api = Api::<WasmRuntimeNode>::all(context.client.clone());
    call(|| format!("read WasmRuntimeNode {name}"), api.get_opt(name)).await
}

pub(super) async fn forget(
    context: &Context,
    runtime: &str,
    node: &str,
    uid: Option<&str>,
) -> Result<Applied, ApplyError> {
    let name = names::runtime_node(runtime, node);
    let api = Api::<WasmRuntimeNode>::all(context.client.clone());
    let gone = || {
        Applied::Gone(Gone {
            kind: Kind::RuntimeNode,
            name: name.clone(),
            uid: uid.map(ToOwned::to_owned),
        })
    };
    let params = DeleteParams {
        preconditions: uid.map(|uid| Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    // Deleted first, then released: in between it is visibly being deleted.
    let left = match call(
        || format!("delete WasmRuntimeNode {name}"),
        api.delete(&name, &params),
    )
    .await
    {
        Ok(answer) => answer.left(),
        Err(ApplyError::Api {
            category: Category::Gone,
            ..
        }) => None,
        Err(error) => return Err(error),
    };
    let Some(left) = left else { return Ok(gone()) };
    let Some(index) = left
        .finalizers()
        .iter()
        .position(|finalizer| finalizer == names::NODE_FINALIZER)
    else {
        return Ok(if left.finalizers().is_empty() {
            gone()
        } else {
            written(left)
        });
    };
    let path = format!("/metadata/finalizers/{index}");
    let change = json_patch(&json!([
        { "op": "test", "path": "/metadata/uid", "value": left.uid() },
        { "op": "test", "path": path, "value": names::NODE_FINALIZER },
        { "op": "remove", "path": path },
    ]));
    let params = PatchParams {
        field_manager: Some(names::MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match call_patch(
        || format!("remove the finalizer from WasmRuntimeNode {name}"),
        api.patch(&name, &params, &change),
    )
    .await
    {
        Ok(left) if !left.finalizers().is_empty() => Ok(written(left)),
        Ok(_)
        | Err(ApplyError::Api {
            category: Category::Gone,
            ..
        }) => Ok(gone()),
        Err(error) => Err(error),
    }
}

fn written(object: WasmRuntimeNode) -> Applied {
    Applied::RuntimeNode(Box::new(object))
}
