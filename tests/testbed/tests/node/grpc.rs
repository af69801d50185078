//! A client of the services that a containerd serves, for what `ctr` cannot ask or does not tell.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use testbed::containerd::Containerd;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::codec::ProstCodec;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};

/// How long a call may take: more than the host lets an exec wait for its turn and its set-up
/// together.
const CALL_TIMEOUT: Duration = Duration::from_mins(2);

/// A client of one containerd and one of its namespaces; containerd may be restarted under it.
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

    /// As [`Client::of`], in another namespace than that of `ctr`.
    pub(crate) fn in_namespace(containerd: &Containerd, namespace: &str) -> Result<Self> {
        // The socket lies on a file system that only the namespace has; the kernel shows it under
        // the namespace's first process.
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
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        // The address is never looked up: the connector knows where to go.
        let channel = runtime.block_on(async {
            Endpoint::from_static("http://containerd").connect_with_connector_lazy(connector)
        });
        let namespace = namespace
            .parse()
            .context("a namespace that fits in no header")?;
        Ok(Self {
            runtime,
            channel,
            namespace,
        })
    }

    /// Calls `method`, written `package.Service/Method`.
    pub(crate) fn call<Q, A>(&self, method: &str, message: Q) -> Result<A, Refusal>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.runtime.block_on(async {
            let path: PathAndQuery = format!("/{method}")
                .parse()
                .expect("a method's name is a path");
            let mut client = Grpc::new(self.channel.clone());
            client.ready().await.map_err(|error| Refusal {
                code: Code::Unavailable,
                text: error.to_string(),
            })?;
            let mut request = Request::new(message);
            request.set_timeout(CALL_TIMEOUT);
            request
                .metadata_mut()
                .insert("containerd-namespace", self.namespace.clone());
            Ok(client
                .unary(request, path, ProstCodec::<Q, A>::default())
                .await?
                .into_inner())
        })
    }
}

impl cri_calls::Caller for Client {
    fn call<Q, A>(&self, method: &str, message: Q) -> Result<A>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        Ok(Self::call(self, method, message)?)
    }
}

/// An answer that is an error.
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
