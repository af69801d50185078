//! Installer Jobs: created once, deleted when their result was recorded.

use std::time::Duration;

use installer_protocol::Request;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt as _};

use super::{Applied, ApplyError, Gone, Kind, call};
use crate::context::Context;
use crate::crd::WasmRuntime;
use crate::error::Category;
use crate::names;
use crate::objects::installer_job;

pub(super) async fn start(
    context: &Context,
    runtime: &WasmRuntime,
    name: &str,
    node: &str,
    request: &Request,
    timeout: Duration,
) -> Result<Applied, ApplyError> {
    let job = installer_job(&context.settings, runtime, name, node, request, timeout);
    let api = Api::<Job>::namespaced(context.client.clone(), &context.settings.namespace);
    let params = PostParams {
        field_manager: Some(names::MANAGER.to_owned()),
        ..PostParams::default()
    };
    match call(
        || format!("create Job {name} for Node {node}"),
        api.create(&params, &job),
    )
    .await
    {
        Err(ApplyError::Api {
            category: Category::Conflict,
            ..
        }) => {
            // It was created before, by an operator that stopped before it recorded that.
            let found = call(|| format!("read Job {name}"), api.get(name)).await?;
            if is_same(&job, &found) {
                Ok(Applied::Job(Box::new(found)))
            } else {
                Err(foreign(name, &found))
            }
        }
        created => Ok(Applied::Job(Box::new(created?))),
    }
}

pub(super) async fn delete(context: &Context, name: &str) -> Result<Applied, ApplyError> {
    let api = Api::<Job>::namespaced(context.client.clone(), &context.settings.namespace);
    // Its pod is deleted after it, in the background.
    let left = match call(
        || format!("delete Job {name}"),
        api.delete(name, &DeleteParams::background()),
    )
    .await
    {
        // A Job with finalizers stays until they are removed; one without is in the answer, and
        // gone.
        Ok(answer) => answer.left().filter(|job| !job.finalizers().is_empty()),
        Err(ApplyError::Api {
            category: Category::Gone,
            ..
        }) => None,
        Err(error) => return Err(error),
    };
    let gone = || {
        Applied::Gone(Gone {
            kind: Kind::Job,
            name: name.to_owned(),
            uid: None,
        })
    };
    Ok(left.map_or_else(gone, |job| Applied::Job(Box::new(job))))
}

/// Whether two Jobs are for the same runtime, by uid, on the same node.
fn is_same(one: &Job, other: &Job) -> bool {
    let label = |job: &Job, key: &str| job.labels().get(key).cloned();
    let annotation = |job: &Job, key: &str| job.annotations().get(key).cloned();
    [names::MANAGED_BY, names::RUNTIME_LABEL]
        .iter()
        .all(|key| label(one, key) == label(other, key))
        && [names::RUNTIME_UID_ANNOTATION, names::NODE_ANNOTATION]
            .iter()
            .all(|key| annotation(one, key) == annotation(other, key))
}

fn foreign(name: &str, found: &Job) -> ApplyError {
    let owner = found
        .labels()
        .get(names::MANAGED_BY)
        .cloned()
        .unwrap_or_else(|| "an unknown owner".to_owned());
    ApplyError::Foreign {
        object: format!("Job {name}"),
        owner,
        next: "delete it, or give the operator a namespace of its own",
    }
}
