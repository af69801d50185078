//! The status of a WasmRuntime, written as a whole.

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::{Applied, ApplyError, call_patch};
use crate::context::Context;
use crate::crd::{WasmRuntime, WasmRuntimeStatus};
use crate::names;

/// Writes `status` to `runtime`, unless it was replaced by another object.
///
/// # Errors
/// If it was not written.
pub async fn write_status(
    context: &Context,
    runtime: &WasmRuntime,
    status: &WasmRuntimeStatus,
) -> Result<Applied, ApplyError> {
    let name = runtime.name_any();
    let object = json!({
        "apiVersion": WasmRuntime::api_version(&()),
        "kind": WasmRuntime::kind(&()),
        "metadata": { "name": name, "uid": runtime.uid() },
        "status": status,
    });
    let api = Api::<WasmRuntime>::all(context.client.clone());
    let (params, change) = (
        PatchParams::apply(names::MANAGER).force(),
        Patch::Apply(&object),
    );
    // "Invalid" means that the object of that uid is gone.
    let written = call_patch(
        || format!("write the status of WasmRuntime {name}"),
        api.patch_status(&name, &params, &change),
    )
    .await?;
    Ok(Applied::Runtime(Box::new(written)))
}
