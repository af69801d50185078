//! A client of containerd's image and content services.

use std::path::PathBuf;
use std::str::FromStr as _;

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::{
    GetContainerRequest, GetImageRequest, InfoRequest, ListContentRequest, ListImagesRequest,
    ReadContentRequest,
};
use containerd_client::tonic::{Code, Request, Status, transport};
use containerd_client::types::Descriptor as TargetDescriptor;
use containerd_client::with_namespace;
use oci_spec::image::{Descriptor, Digest, MediaType};
use thiserror::Error;
use tokio::sync::OnceCell;

use super::{ContainerRecord, ContentStore};

/// The label by which CRI marks its objects, and its value for a container.
const CRI_KIND: (&str, &str) = ("io.cri-containerd.kind", "container");
/// The extension of a container with CRI's metadata.
const CRI_METADATA: &str = "io.cri-containerd.container.metadata";
/// The labels of a manifest that hold the digest of its configuration: for types that containerd
/// knows, and for other types, or as BuildKit writes it.
const CONFIG_LABELS: [&str; 2] = [
    "containerd.io/gc.ref.content.config",
    "containerd.io/gc.ref.content.0",
];
/// Maximum size of a response. A container's record holds its spec, and containerd takes requests
/// of 16 MiB at most.
const MAX_RESPONSE: usize = 32 << 20;

/// A request to containerd failed.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    /// No connection.
    #[error("connect to containerd at {address}")]
    Connect {
        /// The socket.
        address: String,
        /// The cause.
        source: transport::Error,
    },
    /// containerd returned an error.
    #[error("containerd answers {code:?}: {message}")]
    Refused {
        /// The gRPC code.
        code: Code,
        /// The text.
        message: String,
    },
    /// containerd's answer has no descriptor, or an invalid one.
    #[error("containerd's answer has no usable descriptor: {0}")]
    Descriptor(String),
    /// Content is larger than allowed.
    #[error("the content has more than {0} bytes")]
    TooLarge(u64),
}

impl From<Status> for StoreError {
    fn from(status: Status) -> Self {
        Self::Refused {
            code: status.code(),
            message: status.message().to_owned(),
        }
    }
}

/// A client for one namespace of a containerd. It connects at the first request: a sandbox
/// container makes none.
#[derive(Debug)]
pub(crate) struct Containerd {
    address: PathBuf,
    namespace: String,
    channel: OnceCell<transport::Channel>,
}

impl Containerd {
    /// Creates a client of the containerd that listens at `address`.
    pub(crate) fn new(address: impl Into<PathBuf>, namespace: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            namespace: namespace.into(),
            channel: OnceCell::new(),
        }
    }

    async fn channel(&self) -> Result<transport::Channel, StoreError> {
        let connect = || async {
            let connected = containerd_client::connect(&self.address).await;
            connected.map_err(|source| StoreError::Connect {
                address: self.address.display().to_string(),
                source,
            })
        };
        self.channel.get_or_try_init(connect).await.cloned()
    }
}

impl ContentStore for Containerd {
    async fn container(&self, id: &str) -> Result<ContainerRecord, StoreError> {
        let request = GetContainerRequest { id: id.to_owned() };
        let mut client =
            ContainersClient::new(self.channel().await?).max_decoding_message_size(MAX_RESPONSE);
        let answer = client
            .get(with_namespace!(request, self.namespace))
            .await?
            .into_inner();
        let Some(mut container) = answer.container else {
            return Ok(ContainerRecord::default());
        };
        let (label, kind) = CRI_KIND;
        Ok(ContainerRecord {
            is_cri: container
                .labels
                .get(label)
                .is_some_and(|value| value == kind),
            metadata: container
                .extensions
                .remove(CRI_METADATA)
                .map(|metadata| metadata.value),
            image: container.image,
        })
    }

    async fn target(&self, image: &str) -> Result<Option<Descriptor>, StoreError> {
        let request = GetImageRequest {
            name: image.to_owned(),
        };
        match ImagesClient::new(self.channel().await?)
            .get(with_namespace!(request, self.namespace))
            .await
        {
            Ok(answer) => {
                descriptor(answer.into_inner().image.and_then(|image| image.target)).map(Some)
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    async fn images(&self) -> Result<Vec<(String, Descriptor)>, StoreError> {
        let request = ListImagesRequest::default();
        let mut client =
            ImagesClient::new(self.channel().await?).max_decoding_message_size(MAX_RESPONSE);
        let answer = client
            .list(with_namespace!(request, self.namespace))
            .await?
            .into_inner();
        answer
            .images
            .into_iter()
            .map(|image| Ok((image.name, descriptor(image.target)?)))
            .collect()
    }

    async fn manifests_of(&self, config: &str) -> Result<Vec<String>, StoreError> {
        let request = ListContentRequest {
            filters: CONFIG_LABELS
                .map(|label| format!("labels.{label:?}=={config:?}"))
                .to_vec(),
        };
        let mut client =
            ContentClient::new(self.channel().await?).max_decoding_message_size(MAX_RESPONSE);
        let mut stream = client
            .list(with_namespace!(request, self.namespace))
            .await?
            .into_inner();
        let mut manifests = Vec::new();
        while let Some(part) = stream.message().await? {
            manifests.extend(part.info.into_iter().map(|info| info.digest));
        }
        Ok(manifests)
    }

    async fn has(&self, digest: &str) -> Result<bool, StoreError> {
        let request = InfoRequest {
            digest: digest.to_owned(),
        };
        match ContentClient::new(self.channel().await?)
            .info(with_namespace!(request, self.namespace))
            .await
        {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(status.into()),
        }
    }

    async fn read(&self, digest: &str, limit: u64) -> Result<Vec<u8>, StoreError> {
        let request = ReadContentRequest {
            digest: digest.to_owned(),
            ..Default::default()
        };
        let mut stream = ContentClient::new(self.channel().await?)
            .read(with_namespace!(request, self.namespace))
            .await?
            .into_inner();
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

fn descriptor(target: Option<TargetDescriptor>) -> Result<Descriptor, StoreError> {
    let target = target.ok_or_else(|| StoreError::Descriptor("it is empty".to_owned()))?;
    let digest = Digest::from_str(&target.digest)
        .map_err(|error| StoreError::Descriptor(error.to_string()))?;
    let size =
        u64::try_from(target.size).map_err(|error| StoreError::Descriptor(error.to_string()))?;
    Ok(Descriptor::new(
        MediaType::from(target.media_type.as_str()),
        size,
        digest,
    ))
}
