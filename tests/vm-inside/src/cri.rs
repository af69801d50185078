//! CRI's calls to the machine's containerd.

use anyhow::{Context as _, Result};
use containerd_client::tonic::Request;
use containerd_client::tonic::client::Grpc;
use containerd_client::tonic::codec::ProstCodec;
use cri_calls::Caller;
use http::uri::PathAndQuery;

use crate::containerd::Containerd;

impl Caller for Containerd {
    fn call<Q, A>(&self, method: &str, message: Q) -> Result<A>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let path: PathAndQuery = format!("/{method}")
            .parse()
            .expect("a method's name is a valid path");
        self.block_on(async {
            let mut client = Grpc::new(self.channel());
            client.ready().await.context("reach containerd")?;
            Ok(client
                .unary(Request::new(message), path, ProstCodec::<Q, A>::default())
                .await?
                .into_inner())
        })
    }
}
