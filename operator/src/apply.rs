//! One action, one call to the API server, or two where one does not do.
//!
//! Every write says which object it means: by uid, and by resource version where somebody else
//! writes the same field. An object that is not ours is refused, not changed. What was deleted and
//! is not there is as good as deleted now.

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

/// How long an answer may take. A reconcile that hangs would hold its runtime until the connection
/// breaks.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an action led to: the object as it is now, newer than what any watch has said.
#[derive(Debug, Clone, PartialEq)]
pub enum Applied {
    /// A runtime was written.
    Runtime(Box<WasmRuntime>),
    /// A node's object was written.
    RuntimeNode(Box<WasmRuntimeNode>),
    /// A node was written.
    Node(Box<Node>),
    /// A Job was made, or is on its way out.
    Job(Box<Job>),
    /// A RuntimeClass was written.
    Class(Box<RuntimeClass>),
    /// An object is no longer there.
    Gone(Gone),
}

/// An object that is no longer there: its kind, its name, and its uid where it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// What it was.
    pub kind: Kind,
    /// How it was called.
    pub name: String,
    /// Tells it from a later one of the same name.
    pub uid: Option<String>,
}

/// Kinds of objects that actions remove.
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

/// Does `action`, which was decided on `observed`.
///
/// # Errors
/// When it was not done. It can be tried again after another look.
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

/// Waits for an answer, and says of an error what was to be done.
pub(crate) async fn ask<T>(
    operation: impl FnOnce() -> String,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, ApplyError> {
    let (category, source) = match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => (Category::of(&error), Cause::from(error)),
        Err(_) => (Category::Unavailable, Cause::Timeout(PATIENCE)),
    };
    Err(ApplyError::Api {
        operation: operation(),
        category,
        source,
    })
}

/// As [`ask`], for a JSON patch: that one is "invalid" says that one of its tests failed, so
/// somebody was quicker.
async fn ask_patch<T>(
    operation: impl FnOnce() -> String,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, ApplyError> {
    ask(operation, call).await.map_err(|error| match error {
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

/// A JSON patch made of its operations.
fn json_patch(operations: &serde_json::Value) -> Patch<()> {
    Patch::Json(
        serde_json::from_value(operations.clone())
            .expect("the operations are written out in this crate"),
    )
}

/// A part of a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
