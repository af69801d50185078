//! Verbs that are not served yet: each says so by name, instead of ttrpc's "not found", which reads like a lost task.

/// Implements them within `impl containerd_shim::Task`.
macro_rules! verbs {
    ($($verb:ident($request:ident): $what:literal),* $(,)?) => {
        $(fn $verb(
            &self,
            _: &containerd_shim::TtrpcContext,
            _: containerd_shim::api::$request,
        ) -> containerd_shim::TtrpcResult<containerd_shim::api::Empty> {
            Err(crate::error::TaskError::Unserved { what: $what }.into())
        })*
    };
    () => {
        $crate::service::unserved::verbs! {
            exec(ExecProcessRequest): "exec (`kubectl exec`, exec probes)",
            pause(PauseRequest): "pause",
            resume(ResumeRequest): "resume",
            resize_pty(ResizePtyRequest): "a terminal",
            update(UpdateTaskRequest): "changing limits of a running container",
            checkpoint(CheckpointTaskRequest): "checkpoint",
        }
    };
}

pub(super) use verbs;
