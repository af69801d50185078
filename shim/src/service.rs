//! The Task service (containerd's task API, version 3 and, word for word the same, version 2):
//! requests in, tasks moved, responses and events out.

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

pub mod sandbox;

/// The Task service of a host.
#[derive(Clone)]
pub struct Service {
    host: Arc<Host>,
}

impl Service {
    /// The service of `host`.
    pub fn new(host: Arc<Host>) -> Self {
        Self { host }
    }
}

/// Does what one request asks for, to its end, also when containerd gives it up before: a deed that
/// stops in the middle would leave what nobody knows of. A panic is the failure of that request
/// alone: containerd gets an answer, and the host's other containers go on.
pub(crate) async fn answered<T: Send + 'static>(
    verb: &'static str,
    work: impl Future<Output = Result<T, TaskError>> + Send + 'static,
) -> TtrpcResult<T> {
    answered_or_undone(verb, work, async {}).await
}

/// The same, and `undo` if the deed succeeded when nobody was there any more to be told.
pub(crate) async fn answered_or_undone<T: Send + 'static>(
    verb: &'static str,
    work: impl Future<Output = Result<T, TaskError>> + Send + 'static,
    undo: impl Future<Output = ()> + Send + 'static,
) -> TtrpcResult<T> {
    let (tell, told) = oneshot::channel();
    let (_caller, work) = request::on_behalf(work);
    let deed = tokio::spawn(async move {
        if let Err(Ok(_)) = tell.send(work.await) {
            tracing::warn!(verb, "done when containerd had given it up");
            undo.await;
        }
    });
    let outcome = match told.await {
        Ok(result) => Ok(result),
        Err(_) => Err(deed
            .await
            .err()
            .and_then(|error| error.try_into_panic().ok())
            .unwrap_or_else(|| Box::new("it was stopped"))),
    };
    answer(verb, outcome)
}

/// Waits for what changes nothing, no longer than containerd does.
pub(crate) async fn awaited<T>(
    verb: &'static str,
    wait: impl Future<Output = Result<T, TaskError>>,
) -> TtrpcResult<T> {
    answer(verb, AssertUnwindSafe(wait).catch_unwind().await)
}

fn answer<T>(
    verb: &'static str,
    outcome: Result<Result<T, TaskError>, Box<dyn Any + Send>>,
) -> TtrpcResult<T> {
    match outcome {
        Ok(result) => result.map_err(|error| {
            tracing::debug!(verb, "refused: {}", crate::error::chain(&error));
            error.into()
        }),
        Err(panic) => {
            let said = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            let said = said.unwrap_or("without a word").to_owned();
            tracing::error!(verb, "panicked: {said}");
            Err(TaskError::Panicked { verb, said }.into())
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
                let undo = async move { verbs::take_back(&of_undo, &id).await };
                answered_or_undone("create", async move { verbs::create(&host, request).await },
                    undo).await
            }

            async fn start(&self, _: &TtrpcContext,
                request: StartRequest) -> TtrpcResult<StartResponse> {
                let host = Arc::clone(&self.host);
                // Its other end is dropped with this request, also when containerd cancels that.
                let (_request, ended) = oneshot::channel::<Infallible>();
                let cancelled = async { drop(ended.await) };
                answered("start", async move { verbs::start(&host, request,
                    cancelled).await }).await
            }

            async fn wait(&self, _: &TtrpcContext,
                request: WaitRequest) -> TtrpcResult<WaitResponse> {
                awaited("wait", verbs::wait(&self.host, request)).await
            }

            async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> TtrpcResult<Empty> {
                let host = Arc::clone(&self.host);
                let _unanswered = match host.task(&request.id) {
                    Ok(task) => Some(Arc::clone(&task.kills).read_owned().await),
                    Err(_) => None,
                };
                answered("kill", async move { verbs::kill(&host, request).await }).await
            }

            $(async fn $verb(&self, _: &TtrpcContext, request: $request) -> TtrpcResult<$response> {
                let host = Arc::clone(&self.host);
                answered(stringify!($verb), async move { verbs::$verb(&host, request).await }).await
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
