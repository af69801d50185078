//! The Task service: containerd's task API, version 3 and, with the same messages, version 2.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
    PauseRequest, PidsRequest, PidsResponse, ResizePtyRequest, ResumeRequest, ShutdownRequest,
    StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse,
    UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::shim_async::Task as TaskService;
use containerd_shim_protos::ttrpc::Result as TtrpcResult;
use containerd_shim_protos::ttrpc::r#async::TtrpcContext;
use futures::FutureExt as _;
use tokio::sync::oneshot;

use crate::error::TaskError;
use crate::host::Host;
use crate::{request, verbs};

pub(crate) mod sandbox;

/// The Task service of a host.
#[derive(Clone)]
pub(crate) struct Service {
    host: Arc<Host>,
}

impl Service {
    /// Creates the service of `host`.
    pub(crate) fn new(host: Arc<Host>) -> Self {
        Self { host }
    }
}

/// Runs a request to completion even if containerd cancels it: stopping half-way would leak
/// resources. A panic fails that request alone: containerd gets a response, and the host's other
/// containers go on.
pub(crate) async fn run_to_completion<T: Send + 'static>(
    verb: &'static str,
    work: impl Future<Output = Result<T, TaskError>> + Send + 'static,
) -> TtrpcResult<T> {
    run_or_undo(verb, work, async {}).await
}

/// Runs a request to completion, and then `undo` if it succeeded after containerd had cancelled it.
pub(crate) async fn run_or_undo<T: Send + 'static>(
    verb: &'static str,
    work: impl Future<Output = Result<T, TaskError>> + Send + 'static,
    undo: impl Future<Output = ()> + Send + 'static,
) -> TtrpcResult<T> {
    let (reply, replied) = oneshot::channel();
    let (_caller, work) = request::with_caller(work);
    let running = tokio::spawn(async move {
        if let Err(Ok(_)) = reply.send(work.await) {
            tracing::warn!(verb, "completed after containerd had cancelled the request");
            undo.await;
        }
    });
    let outcome = match replied.await {
        Ok(result) => Ok(result),
        Err(_) => Err(running
            .await
            .err()
            .and_then(|error| error.try_into_panic().ok())
            .unwrap_or_else(|| Box::new("it was stopped"))),
    };
    respond(verb, outcome)
}

/// Runs a request that changes nothing; it ends when containerd cancels it.
pub(crate) async fn run_until_cancelled<T>(
    verb: &'static str,
    wait: impl Future<Output = Result<T, TaskError>>,
) -> TtrpcResult<T> {
    respond(verb, AssertUnwindSafe(wait).catch_unwind().await)
}

fn respond<T>(
    verb: &'static str,
    outcome: Result<Result<T, TaskError>, Box<dyn Any + Send>>,
) -> TtrpcResult<T> {
    match outcome {
        Ok(result) => result.map_err(|error| {
            tracing::debug!(verb, "refused: {}", crate::text::chain(&error));
            error.into()
        }),
        Err(panic) => {
            let message = failures::panic_message(panic.as_ref()).to_owned();
            tracing::error!(verb, "panicked: {message}");
            Err(TaskError::Panicked { verb, message }.into())
        }
    }
}

macro_rules! serve {
    ($($verb:ident($request:ty) -> $response:ty;)*) => {
        #[async_trait]
        impl TaskService for Service {
            async fn create(&self, _: &TtrpcContext,
                request: CreateTaskRequest) -> TtrpcResult<CreateTaskResponse> {
                let (host, of_undo, id) = (Arc::clone(&self.host), Arc::clone(&self.host),
                    request.id.clone());
                let undo = async move { verbs::undo_create(&of_undo, &id).await };
                run_or_undo("create", async move { verbs::create(&host, request).await },
                    undo).await
            }

            async fn start(&self, _: &TtrpcContext,
                request: StartRequest) -> TtrpcResult<StartResponse> {
                let host = Arc::clone(&self.host);
                // Its other end is dropped with this request, also if containerd cancels that.
                let (_request, ended) = oneshot::channel::<Infallible>();
                let cancelled = async { drop(ended.await) };
                run_to_completion("start", async move { verbs::start(&host, request,
                    cancelled).await }).await
            }

            async fn wait(&self, _: &TtrpcContext,
                request: WaitRequest) -> TtrpcResult<WaitResponse> {
                run_until_cancelled("wait", verbs::wait(&self.host, request)).await
            }

            async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> TtrpcResult<Empty> {
                let host = Arc::clone(&self.host);
                let _unanswered = match host.task(&request.id) {
                    Ok(task) => Some(Arc::clone(&task.kills).read_owned().await),
                    Err(_) => None,
                };
                run_to_completion("kill", async move { verbs::kill(&host, request).await }).await
            }

            $(async fn $verb(&self, _: &TtrpcContext, request: $request) -> TtrpcResult<$response> {
                let host = Arc::clone(&self.host);
                run_to_completion(stringify!($verb),
                    async move { verbs::$verb(&host, request).await }).await
            })*
        }
    };
}

serve! {
    state(StateRequest) -> StateResponse;
    pids(PidsRequest) -> PidsResponse;
    delete(DeleteRequest) -> DeleteResponse;
    exec(ExecProcessRequest) -> Empty;
    pause(PauseRequest) -> Empty;
    resume(ResumeRequest) -> Empty;
    update(UpdateTaskRequest) -> Empty;
    stats(StatsRequest) -> StatsResponse;
    connect(ConnectRequest) -> ConnectResponse;
    close_io(CloseIORequest) -> Empty;
    resize_pty(ResizePtyRequest) -> Empty;
    checkpoint(CheckpointTaskRequest) -> Empty;
    shutdown(ShutdownRequest) -> Empty;
}

#[cfg(test)]
mod tests;
