//! The application of an action: one API call, or two if one is not enough.
//!
//! Every write names its object by uid, and by resource version if other clients write the same
//! field. An object of another owner is not changed. Deleting an object that is gone is a success.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::ResourceExt as _;
use kube::api::Patch;

use crate::context::Context;
use crate::crd::{WasmRuntime, WasmRuntimeNode};
pub use crate::error::ApplyError;
use crate::error::{Category, Cause};
use crate::plan::{Action, Observed};

mod finalizer;
mod job;
mod node;
mod runtime_class;
mod runtime_node;
mod status;
#[cfg(test)]
mod tests;

pub use runtime_node::read_runtime_node;
pub use status::write_status;

/// Timeout of an API call. A call that hangs would block the runtime until the connection breaks.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The result of an action: the object as it is now, newer than that of any watch.
#[derive(Debug, Clone, PartialEq)]
pub enum Applied {
    /// A runtime was written.
    Runtime(Box<WasmRuntime>),
    /// A node's object was written.
    RuntimeNode(Box<WasmRuntimeNode>),
    /// A node was written.
    Node(Box<Node>),
    /// A Job was created, or is being deleted.
    Job(Box<Job>),
    /// A RuntimeClass was written.
    Class(Box<RuntimeClass>),
    /// An object is no longer there.
    Gone(Gone),
}

/// An object that is no longer there: its kind, its name, and its uid where it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// The kind.
    pub kind: Kind,
    /// The name.
    pub name: String,
    /// Distinguishes it from a later object of the same name.
    pub uid: Option<String>,
}

/// Kinds of objects that actions delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A runtime.
    Runtime,
    /// A node's object.
    RuntimeNode,
    /// A Job.
    Job,
    /// A RuntimeClass.
    Class,
}

/// Applies `action`, which was planned for `observed`.
///
/// # Errors
/// If it was not applied. Another plan can repeat it.
pub async fn apply(
    context: &Context,
    observed: &Observed,
    action: &Action,
) -> Result<Applied, ApplyError> {
    let runtime = &observed.runtime;
    let name = runtime.name_any();
    let applied = match action {
        Action::AddFinalizer => finalizer::add(context, runtime).await,
        Action::ReleaseFinalizer => finalizer::release(context, runtime).await,
        Action::ApplyRuntimeClass => {
            runtime_class::apply(context, runtime, observed.class.as_ref()).await
        }
        Action::RemoveRuntimeClass => {
            runtime_class::remove(context, runtime, observed.class.as_ref()).await
        }
        Action::Claim { node, uid } => runtime_node::claim(context, &name, node, uid).await,
        Action::SetNode { node, status } => {
            let uid = observed.states.get(node).map(|state| state.uid.as_str());
            runtime_node::set(context, &name, node, uid, status).await
        }
        Action::Forget { node } => {
            let uid = observed.states.get(node).map(|state| state.uid.as_str());
            runtime_node::forget(context, &name, node, uid).await
        }
        Action::StartInstaller {
            job,
            node,
            request,
            timeout,
        } => job::start(context, runtime, job, node, request, *timeout).await,
        Action::DeleteJob { job, .. } => job::delete(context, job).await,
        Action::Label { node, uid } => node::label(context, &name, node, uid).await,
        Action::Unlabel { node, uid } => node::unlabel(context, &name, node, uid).await,
        Action::RemoveTaints { node, uid, taints } => {
            node::remove_taints(context, node, uid, taints).await
        }
    }?;
    context.metrics.record_action(observed, action);
    Ok(applied)
}

/// Waits for the answer to an API call, and adds the operation to an error.
pub(crate) async fn call<T>(
    operation: impl FnOnce() -> String,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, ApplyError> {
    let (category, source) = match tokio::time::timeout(CALL_TIMEOUT, request).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => (Category::of(&error), Cause::from(error)),
        Err(_) => (Category::Unavailable, Cause::Timeout(CALL_TIMEOUT)),
    };
    Err(ApplyError::Api {
        operation: operation(),
        category,
        source,
    })
}

/// As [`call`], for a JSON patch: "invalid" means that one of its tests failed, which is a
/// conflict.
async fn call_patch<T>(
    operation: impl FnOnce() -> String,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, ApplyError> {
    call(operation, request).await.map_err(|error| match error {
        ApplyError::Api {
            operation,
            category: Category::Invalid,
            source,
        } => ApplyError::Api {
            operation,
            category: Category::Conflict,
            source,
        },
        error => error,
    })
}

/// Returns the JSON patch of these operations.
fn json_patch(operations: &serde_json::Value) -> Patch<()> {
    Patch::Json(
        serde_json::from_value(operations.clone())
            .expect("the operations are constants of this crate"),
    )
}

/// Escapes a part of a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
