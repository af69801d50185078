//! The Task service (containerd's task API, version 3 and, word for word the same, version 2): requests in, tasks moved,
//! responses and events out.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest,
    DeleteResponse, Empty, ExecProcessRequest, KillRequest, PauseRequest, PidsRequest, PidsResponse, ResizePtyRequest, ResumeRequest,
    ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse, UpdateTaskRequest, WaitRequest,
    WaitResponse,
};
use containerd_shim_protos::shim_async::Task as TaskService;
use containerd_shim_protos::ttrpc::Result as TtrpcResult;
use containerd_shim_protos::ttrpc::r#async::TtrpcContext;
use futures::FutureExt as _;

use crate::error::TaskError;
use crate::host::Host;
use crate::verbs;

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

/// Does what one request asks for. A panic is the failure of that request alone: containerd gets an answer, and the
/// host's other containers go on.
pub(crate) async fn answered<T>(verb: &'static str, work: impl Future<Output = Result<T, TaskError>>) -> TtrpcResult<T> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result.map_err(|error| {
            tracing::debug!(verb, "refused: {}", crate::error::chain(&error));
            error.into()
        }),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
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
            $(async fn $verb(&self, _: &TtrpcContext, request: $request) -> TtrpcResult<$response> {
                answered(stringify!($verb), verbs::$verb(&self.host, request)).await
            })*
        }
    };
}

serve! {
    create(CreateTaskRequest) -> CreateTaskResponse;
    start(StartRequest) -> StartResponse;
    state(StateRequest) -> StateResponse;
    pids(PidsRequest) -> PidsResponse;
    kill(KillRequest) -> Empty;
    wait(WaitRequest) -> WaitResponse;
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
mod tests {
    use containerd_shim_protos::ttrpc::{Code, Error};

    use super::*;

    fn code<T: std::fmt::Debug>(result: TtrpcResult<T>) -> (Code, String) {
        match result {
            Err(Error::RpcStatus(status)) => (status.code(), status.message),
            other => panic!("{other:?} is no answer with a code"),
        }
    }

    #[tokio::test]
    async fn a_panic_fails_one_request_and_says_which() {
        let failed = answered::<()>("pids", async { panic!("no list of {}", "processes") }).await;
        let (failed_code, text) = code(failed);
        assert_eq!(failed_code, Code::INTERNAL);
        assert!(text.contains("pids") && text.contains("no list of processes"), "{text}");
        assert_eq!(answered("pids", async { Ok(1) }).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn an_answer_has_the_errors_code_and_words() {
        let (code, text) = code(answered::<()>("state", async { Err(TaskError::NotFound { id: "c1".to_owned() }) }).await);
        assert_eq!((code, text.as_str()), (Code::NOT_FOUND, "there is no task c1"));
    }
}
