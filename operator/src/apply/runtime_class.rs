//! The RuntimeClass: creates, changes, adopts, restores and deletes it.
//!
//! Another client may have created it, and its quantities and tolerations are maps and lists, which
//! server-side apply would merge. So it is created with POST, which fails if it exists, and changed
//! by a JSON patch that replaces whole fields of the version that was read.

use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::{DeleteParams, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::{Applied, ApplyError, Gone, Kind, call, call_patch, json_patch};
use crate::context::Context;
use crate::crd::WasmRuntime;
use crate::error::Category;
use crate::names;
use crate::objects::runtime_class::{self, RemovalAction};

pub(super) async fn apply(
    context: &Context,
    runtime: &WasmRuntime,
    found: Option<&RuntimeClass>,
) -> Result<Applied, ApplyError> {
    let desired = runtime_class::desired(runtime);
    let name = desired.name_any();
    let Some(found) = found else {
        let api = Api::<RuntimeClass>::all(context.client.clone());
        let params = PostParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PostParams::default()
        };
        let created = call(
            || format!("create RuntimeClass {name}"),
            api.create(&params, &desired),
        )
        .await?;
        return Ok(Applied::Class(Box::new(created)));
    };
    let runtime_name = runtime.name_any();
    let is_ours = runtime_class::is_ours(found, &runtime_name);
    if !is_ours && !runtime.spec.runtime_class.adopt_existing {
        return Err(foreign(
            found,
            "set spec.runtimeClass.adoptExisting, or choose another spec.runtimeClass.name",
        ));
    }
    if found.handler != desired.handler {
        return Err(foreign(
            found,
            "it has another handler, which cannot be changed: delete it, or choose another \
             spec.runtimeClass.name",
        ));
    }
    let changed = runtime_class::changed(&desired, found, &runtime_name);
    patch(context, found, &changed, "change").await
}

pub(super) async fn remove(
    context: &Context,
    runtime: &WasmRuntime,
    found: Option<&RuntimeClass>,
) -> Result<Applied, ApplyError> {
    let name = runtime.spec.runtime_class.name.clone();
    let Some(found) = found else {
        return Ok(Applied::Gone(Gone {
            kind: Kind::Class,
            name,
            uid: None,
        }));
    };
    if !runtime_class::is_ours(found, &runtime.name_any()) {
        return Err(foreign(found, "the operator does not change it"));
    }
    let removal_action =
        runtime_class::removal_action(found).map_err(|source| ApplyError::Unreadable {
            what: names::ADOPTED_ANNOTATION,
            object: format!("RuntimeClass {name}"),
            source: std::sync::Arc::new(source),
        })?;
    let gone = Applied::Gone(Gone {
        kind: Kind::Class,
        name: name.clone(),
        uid: found.uid(),
    });
    let done = match removal_action {
        RemovalAction::Restore(original) => patch(context, found, &original, "restore").await,
        RemovalAction::Delete => {
            let api = Api::<RuntimeClass>::all(context.client.clone());
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: found.uid(),
                    resource_version: found.resource_version(),
                }),
                ..DeleteParams::default()
            };
            call(
                || format!("delete RuntimeClass {name}"),
                api.delete(&name, &params),
            )
            .await
            .map(|_| gone.clone())
        }
    };
    match done {
        Err(ApplyError::Api {
            category: Category::Gone,
            ..
        }) => Ok(gone),
        done => done,
    }
}

async fn patch(
    context: &Context,
    found: &RuntimeClass,
    wanted: &RuntimeClass,
    verb: &str,
) -> Result<Applied, ApplyError> {
    let name = found.name_any();
    let api = Api::<RuntimeClass>::all(context.client.clone());
    let params = PatchParams {
        field_manager: Some(names::MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let change = json_patch(&Value::Array(operations(found, wanted)));
    let written = call_patch(
        || format!("{verb} RuntimeClass {name}"),
        api.patch(&name, &params, &change),
    )
    .await?;
    Ok(Applied::Class(Box::new(written)))
}

/// Returns the patch from `found`, in this version, to `wanted`.
fn operations(found: &RuntimeClass, wanted: &RuntimeClass) -> Vec<Value> {
    let mut operations = vec![
        json!({ "op": "test", "path": "/metadata/uid", "value": found.uid() }),
        json!({ "op": "test", "path": "/metadata/resourceVersion",
            "value": found.resource_version() }),
    ];
    let filled = |empty: bool, value: Value| if empty { Value::Null } else { value };
    let fields = |class: &RuntimeClass| {
        [
            (
                "/metadata/labels",
                filled(class.labels().is_empty(), json!(class.labels())),
            ),
            (
                "/metadata/annotations",
                filled(class.annotations().is_empty(), json!(class.annotations())),
            ),
            ("/overhead", json!(class.overhead)),
            ("/scheduling", json!(class.scheduling)),
        ]
    };
    for ((path, before), (_, after)) in fields(found).into_iter().zip(fields(wanted)) {
        match (before == after, after.is_null()) {
            (true, _) => {}
            (false, true) => operations.push(json!({ "op": "remove", "path": path })),
            // Adding a field that exists replaces it.
            (false, false) => operations.push(json!({ "op": "add", "path": path, "value": after })),
        }
    }
    operations
}

fn foreign(found: &RuntimeClass, next: &'static str) -> ApplyError {
    ApplyError::Foreign {
        object: format!("RuntimeClass {}", found.name_any()),
        owner: runtime_class::owner(found),
        next,
    }
}
