//! Fetches the runtime's archive: from the installer's image, from a URL, or as a layer of an OCI
//! artifact.
//!
//! The SHA-256 is computed while the bytes arrive and compared before any of them is used. A file
//! with another digest is removed at once, and every download is removed when its [`Archive`] is
//! dropped.
//!
//! TLS trusts the roots in the image's `/etc/ssl/certs/ca-certificates.crt`, or in the file that
//! `SSL_CERT_FILE` names: for a registry with its own certificate authority. `HTTPS_PROXY`,
//! `HTTP_PROXY` and `NO_PROXY` are used.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use installer_protocol::{Artifact, Reason};

mod bundled;
mod download;
mod image;
mod retry;
mod secret;
mod url;

pub use secret::SecretError;

/// Fetches archives.
#[derive(Debug, Clone)]
pub struct Fetcher {
    /// The archive in the installer's image. Its digest is in the file with `.sha256` appended.
    pub bundled: PathBuf,
    /// Credentials for registries in Docker's format, as in a mounted pull secret. May be absent.
    pub pull_secret: PathBuf,
    /// The limits of downloads.
    pub limits: Limits,
}

/// Limits of a download.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Maximum number of attempts.
    pub attempts: u32,
    /// Backoff before the second attempt; doubled before each further one.
    pub backoff: Duration,
    /// Maximum time to connect.
    pub connect: Duration,
    /// Maximum time between two parts of an answer.
    pub idle: Duration,
    /// Maximum time of all attempts together.
    pub total: Duration,
    /// Maximum bytes of an archive.
    pub size: u64,
}

impl Default for Fetcher {
    fn default() -> Self {
        Self {
            bundled: PathBuf::from("/artifact/runtime.tar.gz"),
            pull_secret: PathBuf::from("/pull-secret/config.json"),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempts: 4,
            backoff: Duration::from_secs(2),
            connect: Duration::from_secs(15),
            idle: Duration::from_secs(30),
            // Less than an installer's time, so that the failure is still reported.
            total: Duration::from_mins(5),
            // Ours has 16 MB.
            size: 512 << 20,
        }
    }
}

/// An archive with a verified digest. A download is removed on drop.
#[derive(Debug)]
pub struct Archive {
    /// Its path.
    pub path: PathBuf,
    /// Its SHA-256, 64 hexadecimal digits.
    pub sha256: String,
    /// Removes the file on drop.
    _download: Option<tempfile::TempPath>,
}

/// An archive that could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The installer's image is incomplete.
    #[error("the installer's image has no {}: install another image", path.display())]
    NotBundled {
        /// The missing file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The bytes have another digest.
    #[error(
        "{origin} has SHA-256 {found}, expected {expected}: correct the digest, or do not trust \
         the source"
    )]
    Digest {
        /// The source.
        origin: String,
        /// The expected digest.
        expected: String,
        /// The computed digest.
        found: String,
    },
    /// The archive is too large.
    #[error("{origin} has more than {limit} bytes")]
    TooLarge {
        /// The source.
        origin: String,
        /// The limit.
        limit: u64,
    },
    /// The address is not valid.
    #[error("{url:?} is not an address to download from: write https://host/path")]
    Address {
        /// The address.
        url: String,
    },
    /// A server answered with an error.
    #[error("{origin} answered with HTTP status {status}")]
    Status {
        /// The source.
        origin: String,
        /// The HTTP status.
        status: u16,
    },
    /// No server answered, or the connection broke.
    #[error("cannot download {origin}")]
    Connection {
        /// The source.
        origin: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// TLS could not be set up: no trusted roots.
    #[error(
        "cannot set up TLS: are there certificates in /etc/ssl/certs, or in the file that \
         SSL_CERT_FILE names?"
    )]
    Client {
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The reference is not valid.
    #[error("{reference:?} is not a reference of an OCI artifact: write registry/repository:tag")]
    Reference {
        /// The reference.
        reference: String,
    },
    /// A registry refused.
    #[error("the registry refuses {origin}")]
    Registry {
        /// The source.
        origin: String,
        /// The cause.
        source: Box<oci_client::errors::OciDistributionError>,
    },
    /// A registry's answer cannot be parsed.
    #[error("{origin} is not an OCI artifact")]
    Artifact {
        /// The source.
        origin: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// The artifact does not have the layer.
    #[error("{origin} has no layer sha256:{expected}; its layers are {layers}")]
    NoLayer {
        /// The artifact.
        origin: String,
        /// The expected layer.
        expected: String,
        /// The artifact's layers.
        layers: String,
    },
    /// The pull secret cannot be used.
    #[error("cannot use the pull secret {}", path.display())]
    Secret {
        /// Its file.
        path: PathBuf,
        /// The cause.
        source: SecretError,
    },
    /// The download took too long.
    #[error("{origin} was not downloaded within {} s", limit.as_secs())]
    Deadline {
        /// The source.
        origin: String,
        /// The limit.
        limit: Duration,
    },
    /// A file operation on the node failed.
    #[error("cannot {operation} {}", path.display())]
    Host {
        /// The operation.
        operation: &'static str,
        /// Its object.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl FetchError {
    /// Returns the reason for the report.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Digest { .. } | Self::NoLayer { .. } => Reason::DigestMismatch,
            Self::NotBundled { .. } | Self::TooLarge { .. } | Self::Artifact { .. } => {
                Reason::InvalidArtifact
            }
            Self::Address { .. } | Self::Reference { .. } => Reason::InvalidRequest,
            Self::Status { .. }
            | Self::Connection { .. }
            | Self::Client { .. }
            | Self::Registry { .. }
            | Self::Secret { .. }
            | Self::Deadline { .. } => Reason::Download,
            Self::Host { .. } => Reason::HostFiles,
        }
    }

    /// Adds the operation and its object to an I/O error.
    fn host(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Host {
            operation,
            path: path.to_owned(),
            source,
        }
    }
}

impl Fetcher {
    /// Fetches `artifact`. A download becomes a hidden file in `folder`, which is created if it is
    /// absent.
    ///
    /// The caller holds the node's lock: this removes what killed runs left in `folder`.
    ///
    /// # Errors
    /// See [`FetchError`]. No file stays then.
    pub async fn fetch(&self, artifact: &Artifact, folder: &Path) -> Result<Archive, FetchError> {
        if *artifact == Artifact::Bundled {
            return bundled::find(&self.bundled);
        }
        fs::create_dir_all(folder).map_err(FetchError::host("make", folder))?;
        download::remove_leftovers(folder)?;
        match artifact {
            Artifact::Bundled => bundled::find(&self.bundled),
            Artifact::Url { url, sha256 } => url::fetch(url, sha256, folder, &self.limits).await,
            Artifact::Image { reference, sha256 } => {
                image::fetch(reference, sha256, folder, self).await
            }
        }
    }
}

/// Formats `bytes` as hexadecimal digits in lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
