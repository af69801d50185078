//! The connection to containerd's socket, and a call through it.

use std::io;
use std::path::{Path, PathBuf};

use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codec::ProstCodec;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Maximum size of an answer, containerd's default. Lists of a full node's containers are long.
const MAX_ANSWER: usize = 16 << 20;
/// The address that HTTP/2 requires. It is not used: the connectors connect to the socket.
const ADDRESS: &str = "http://containerd";

/// Returns a connection to `socket` that connects on first use, and reconnects after a restart of
/// containerd. Call it inside a tokio runtime.
pub fn lazy(socket: &Path) -> Channel {
    let path = socket.to_owned();
    Endpoint::from_static(ADDRESS)
        .connect_with_connector_lazy(tower::service_fn(move |_: Uri| connect(path.clone())))
}

/// Connects to `socket`. The connection reconnects after a restart of containerd.
pub async fn open(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = socket.to_owned();
    Endpoint::from_static(ADDRESS)
        .connect_with_connector(tower::service_fn(move |_: Uri| connect(path.clone())))
        .await
}

async fn connect(path: PathBuf) -> io::Result<TokioIo<UnixStream>> {
    Ok(TokioIo::new(UnixStream::connect(path).await?))
}

/// Calls the method at `path`, written as `package.Service/Method`.
pub async fn unary<Q, A>(channel: Channel, path: &str, request: Request<Q>) -> Result<A, Status>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let path: PathAndQuery = format!("/{path}")
        .parse()
        .expect("a method's name is a valid path");
    let mut client = Grpc::new(channel).max_decoding_message_size(MAX_ANSWER);
    client
        .ready()
        .await
        .map_err(|error| Status::from_error(error.into()))?;
    client
        .unary(request, path, ProstCodec::<Q, A>::default())
        .await
        .map(tonic::Response::into_inner)
}
