//! A client of containerd's services, for requests that `ctr` cannot send or replies that it does
//! not show.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cri_client::blocking::Caller;
use cri_client::{Method, channel};
use testbed::containerd::Containerd;
use tokio::runtime::Runtime;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Timeout of a call: more than the host's timeouts for an exec process to get its turn and to be
/// set up.
const CALL_TIMEOUT: Duration = Duration::from_mins(2);

/// A client of one containerd and one of its namespaces. It works across restarts of containerd.
#[derive(Debug)]
pub(crate) struct Client {
    runtime: Runtime,
    channel: Channel,
    namespace: MetadataValue<Ascii>,
}

impl Client {
    pub(crate) fn of(containerd: &Containerd) -> Result<Self> {
        Self::in_namespace(containerd, containerd.namespace())
    }

    /// As [`Client::of`], for another namespace than that of `ctr`.
    pub(crate) fn in_namespace(containerd: &Containerd, namespace: &str) -> Result<Self> {
        // The socket is on a file system of the namespace; the kernel shows it under the
        // namespace's first process.
        let socket = PathBuf::from(format!(
            "/proc/{}/root{}",
            containerd.isolated().init_pid(),
            containerd.address().display()
        ));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("start a runtime")?;
        let channel = runtime.block_on(async { channel::lazy(&socket) });
        let namespace = namespace
            .parse()
            .context("the namespace is not a valid header value")?;
        Ok(Self {
            runtime,
            channel,
            namespace,
        })
    }

    /// Calls `method`, written as `package.Service/Method`.
    pub(crate) fn call<Q, A>(&self, method: &str, message: Q) -> Result<A, Refusal>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut request = Request::new(message);
        request.set_timeout(CALL_TIMEOUT);
        request
            .metadata_mut()
            .insert("containerd-namespace", self.namespace.clone());
        self.runtime
            .block_on(channel::unary(self.channel.clone(), method, request))
            .map_err(Refusal::from)
    }
}

impl Caller for Client {
    fn call<Q, A>(&self, method: &Method<Q, A>, message: Q) -> Result<A>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        Ok(Self::call(self, method.path(), message)?)
    }
}

/// An error reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) text: String,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self {
            code: status.code(),
            text: status.message().to_owned(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.text, self.code)
    }
}

impl std::error::Error for Refusal {}
