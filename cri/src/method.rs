//! The methods of CRI: each with its path and the types of its messages.

use std::marker::PhantomData;

use crate::message::{
    ContainerId, ContainerStatsResponse, ContainerStatusResponse, CreateContainerRequest, Empty,
    ExecSyncRequest, Executed, ImageStatusRequest, ImageStatusResponse, ListContainersRequest,
    ListContainersResponse, ListPodSandboxRequest, ListPodSandboxResponse, ListStatsResponse,
    PodSandboxStatusResponse, RunPodSandboxRequest, SandboxId, StatusRequest, StatusResponse,
    StopContainerRequest, UpdateResourcesRequest,
};

/// A unary method with requests `Q` and answers `A`.
#[derive(Debug)]
pub struct Method<Q, A> {
    path: &'static str,
    messages: PhantomData<fn(Q) -> A>,
}

impl<Q, A> Method<Q, A> {
    /// Names a method by its path `package.Service/Method`.
    pub const fn new(path: &'static str) -> Self {
        Self {
            path,
            messages: PhantomData,
        }
    }

    /// Returns the path `package.Service/Method`.
    pub const fn path(&self) -> &'static str {
        self.path
    }

    /// Returns the name without the service.
    pub fn name(&self) -> &'static str {
        self.path
            .rsplit_once('/')
            .map_or(self.path, |(_, name)| name)
    }
}

macro_rules! methods {
    ($service:literal: $($constant:ident = $name:literal ($request:ty) -> $answer:ty;)+) => {$(
        #[doc = concat!("`", $name, "`.")]
        pub const $constant: Method<$request, $answer> =
            Method::new(concat!("runtime.v1.", $service, "/", $name));
    )+};
}

methods! { "RuntimeService":
    STATUS = "Status" (StatusRequest) -> StatusResponse;
    RUN_POD_SANDBOX = "RunPodSandbox" (RunPodSandboxRequest) -> SandboxId;
    STOP_POD_SANDBOX = "StopPodSandbox" (SandboxId) -> Empty;
    REMOVE_POD_SANDBOX = "RemovePodSandbox" (SandboxId) -> Empty;
    POD_SANDBOX_STATUS = "PodSandboxStatus" (SandboxId) -> PodSandboxStatusResponse;
    LIST_POD_SANDBOX = "ListPodSandbox" (ListPodSandboxRequest) -> ListPodSandboxResponse;
    CREATE_CONTAINER = "CreateContainer" (CreateContainerRequest) -> ContainerId;
    START_CONTAINER = "StartContainer" (ContainerId) -> Empty;
    STOP_CONTAINER = "StopContainer" (StopContainerRequest) -> Empty;
    REMOVE_CONTAINER = "RemoveContainer" (ContainerId) -> Empty;
    CONTAINER_STATUS = "ContainerStatus" (ContainerId) -> ContainerStatusResponse;
    LIST_CONTAINERS = "ListContainers" (ListContainersRequest) -> ListContainersResponse;
    EXEC_SYNC = "ExecSync" (ExecSyncRequest) -> Executed;
    UPDATE_CONTAINER_RESOURCES = "UpdateContainerResources" (UpdateResourcesRequest) -> Empty;
    CONTAINER_STATS = "ContainerStats" (ContainerId) -> ContainerStatsResponse;
    LIST_CONTAINER_STATS = "ListContainerStats" (Empty) -> ListStatsResponse;
    LIST_POD_SANDBOX_STATS = "ListPodSandboxStats" (Empty) -> ListStatsResponse;
}

methods! { "ImageService":
    IMAGE_STATUS = "ImageStatus" (ImageStatusRequest) -> ImageStatusResponse;
}
