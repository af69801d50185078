//! containerd's image and content services.

use std::path::PathBuf;
use std::str::FromStr as _;

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::{GetContainerRequest, GetImageRequest, InfoRequest, ReadContentRequest};
use containerd_client::tonic::{Code, Request, Status, transport};
use containerd_client::with_namespace;
use oci_spec::image::{Descriptor, Digest, MediaType};
use thiserror::Error;
use tokio::sync::OnceCell;

use super::ContentStore;

/// Why containerd could not be asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// No connection.
    #[error("connect to containerd at {address}")]
    Connect {
        /// The socket.
        address: String,
        /// Why.
        source: transport::Error,
    },
    /// containerd's own words.
    #[error("containerd answers {code:?}: {message}")]
    Refused {
        /// The gRPC code.
        code: Code,
        /// The text.
        message: String,
    },
    /// containerd's answer has no descriptor, or one that cannot be read.
    #[error("containerd's answer has no usable descriptor: {0}")]
    Descriptor(String),
    /// Content is larger than it says.
    #[error("the content has more than {0} bytes")]
    TooLarge(u64),
}

impl From<Status> for StoreError {
    fn from(status: Status) -> Self {
        Self::Refused { code: status.code(), message: status.message().to_owned() }
    }
}

/// A containerd, as seen from one of its namespaces. Connects at the first question: a sandbox container asks none.
#[derive(Debug)]
pub struct Containerd {
    address: PathBuf,
    namespace: String,
    channel: OnceCell<transport::Channel>,
}

impl Containerd {
    /// The containerd that listens at `address`.
    pub fn new(address: impl Into<PathBuf>, namespace: impl Into<String>) -> Self {
        Self { address: address.into(), namespace: namespace.into(), channel: OnceCell::new() }
    }

    async fn channel(&self) -> Result<transport::Channel, StoreError> {
        let connect = || async {
            let connected = containerd_client::connect(&self.address).await;
            connected.map_err(|source| StoreError::Connect { address: self.address.display().to_string(), source })
        };
        self.channel.get_or_try_init(connect).await.cloned()
    }
}

impl ContentStore for Containerd {
    async fn image_of(&self, id: &str) -> Result<Option<String>, StoreError> {
        let request = GetContainerRequest { id: id.to_owned() };
        let answer = ContainersClient::new(self.channel().await?).get(with_namespace!(request, self.namespace)).await?.into_inner();
        Ok(answer.container.map(|container| container.image).filter(|image| !image.is_empty()))
    }

    async fn target(&self, image: &str) -> Result<Option<Descriptor>, StoreError> {
        let request = GetImageRequest { name: image.to_owned() };
        let answer = match ImagesClient::new(self.channel().await?).get(with_namespace!(request, self.namespace)).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            Err(status) => return Err(status.into()),
        };
        let target = answer.image.and_then(|image| image.target).ok_or_else(|| StoreError::Descriptor("it is empty".to_owned()))?;
        let digest = Digest::from_str(&target.digest).map_err(|error| StoreError::Descriptor(error.to_string()))?;
        let size = u64::try_from(target.size).map_err(|error| StoreError::Descriptor(error.to_string()))?;
        Ok(Some(Descriptor::new(MediaType::from(target.media_type.as_str()), size, digest)))
    }

    async fn has(&self, digest: &str) -> Result<bool, StoreError> {
        let request = InfoRequest { digest: digest.to_owned() };
        match ContentClient::new(self.channel().await?).info(with_namespace!(request, self.namespace)).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(status.into()),
        }
    }

    async fn read(&self, digest: &str, limit: u64) -> Result<Vec<u8>, StoreError> {
        let request = ReadContentRequest { digest: digest.to_owned(), ..Default::default() };
        let mut stream = ContentClient::new(self.channel().await?).read(with_namespace!(request, self.namespace)).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(part) = stream.message().await? {
            bytes.extend_from_slice(&part.data);
            if bytes.len() as u64 > limit {
                return Err(StoreError::TooLarge(limit));
            }
        }
        Ok(bytes)
    }
}
