//! What a runtime's object says of itself, written as a whole.

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::{Applied, ApplyError, ask_patch};
use crate::context::Context;
use crate::crd::{WasmRuntime, WasmRuntimeStatus};
use crate::names;

/// Writes `status` to `runtime`, if it is still the same object.
///
/// # Errors
/// When it was not written.
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
    // That it is "invalid" says that the object of that uid is gone.
    let written = ask_patch(
        || format!("write the status of WasmRuntime {name}"),
        api.patch_status(&name, &params, &change),
    )
    .await?;
    Ok(Applied::Runtime(Box::new(written)))
}
