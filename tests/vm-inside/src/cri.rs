//! CRI's calls to the machine's containerd.

use anyhow::Result;
use containerd_client::tonic::Request;
use cri_client::blocking::Caller;
use cri_client::{Method, channel};

use crate::containerd::Containerd;

impl Caller for Containerd {
    fn call<Q, A>(&self, method: &Method<Q, A>, message: Q) -> Result<A>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let request = Request::new(message);
        self.block_on(async { Ok(channel::unary(self.channel(), method.path(), request).await?) })
    }
}
