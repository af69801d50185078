//! Getting the runtime's archive: out of the installer's image, from a URL, or as a layer of an OCI
//! artifact.
//!
//! The archive's SHA-256 is computed while its bytes arrive and compared before anybody else reads
//! one of them. A file that is not the expected one is removed at once, and so is every download
//! when its [`Archive`] is dropped.
//!
//! TLS trusts the roots of the image's own `/etc/ssl/certs/ca-certificates.crt`, or those of the
//! file that `SSL_CERT_FILE` names instead: for a registry with an authority of its own. Proxies
//! are taken from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.

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

/// How the archives of both our images and others' are got.
#[derive(Debug, Clone)]
pub struct Fetcher {
    /// The archive in the installer's image; the same path with `.sha256` behind it says its
    /// digest.
    pub bundled: PathBuf,
    /// Credentials for registries, in docker's form, as a pull secret is mounted. It need not be
    /// there.
    pub pull_secret: PathBuf,
    /// How long, how often, how much.
    pub limits: Limits,
}

/// How long, how often and how much is downloaded.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Attempts, where a failure may pass.
    pub attempts: u32,
    /// Before the second attempt; doubled before each further one.
    pub pause: Duration,
    /// Until a connection is there.
    pub connect: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// All attempts together.
    pub total: Duration,
    /// Bytes of an archive.
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
            pause: Duration::from_secs(2),
            connect: Duration::from_secs(15),
            idle: Duration::from_secs(30),
            // Less than an installer has: there must be time left to say what went wrong.
            total: Duration::from_mins(5),
            // Ours has 16 MB.
            size: 512 << 20,
        }
    }
}

/// An archive whose digest was compared. A download is removed when this value is dropped.
#[derive(Debug)]
pub struct Archive {
    /// Where it lies.
    pub path: PathBuf,
    /// Its SHA-256, 64 hexadecimal digits.
    pub sha256: String,
    /// What removes it.
    _download: Option<tempfile::TempPath>,
}

/// Why an archive could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The installer's image is not whole.
    #[error("the installer's image holds no {}: install another image", path.display())]
    NotBundled {
        /// What is missing.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The bytes are not those whose digest was given.
    #[error(
        "{origin} has SHA-256 {found}, expected {expected}: correct the digest, or distrust the \
         place"
    )]
    Digest {
        /// Where they came from.
        origin: String,
        /// What was asked for.
        expected: String,
        /// What came.
        found: String,
    },
    /// There is more than an archive may have.
    #[error("{origin} has more than {limit} bytes")]
    TooLarge {
        /// Where it comes from.
        origin: String,
        /// The limit.
        limit: u64,
    },
    /// The address is none.
    #[error("{url:?} is no address to download from: write https://host/path")]
    Address {
        /// What was given.
        url: String,
    },
    /// A server answered, with something else.
    #[error("{origin} answered with HTTP status {status}")]
    Status {
        /// What was asked for.
        origin: String,
        /// The answer.
        status: u16,
    },
    /// No server answered, or it stopped in the middle.
    #[error("cannot download {origin}")]
    Connection {
        /// What was asked for.
        origin: String,
        /// What the client says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// TLS could not be set up: no trusted roots.
    #[error(
        "cannot set up TLS: are there certificates in /etc/ssl/certs, or in the file that \
         SSL_CERT_FILE names?"
    )]
    Client {
        /// What the client says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The reference is none.
    #[error("{reference:?} is no reference of an OCI artifact: write registry/repository:tag")]
    Reference {
        /// What was given.
        reference: String,
    },
    /// A registry refused.
    #[error("the registry refuses {origin}")]
    Registry {
        /// What was asked for.
        origin: String,
        /// What it says.
        source: Box<oci_client::errors::OciDistributionError>,
    },
    /// What a registry says of an artifact cannot be understood.
    #[error("{origin} is no OCI artifact")]
    Artifact {
        /// What was asked for.
        origin: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// An artifact has no such layer.
    #[error("{origin} has no layer sha256:{expected}; its layers are {layers}")]
    NoLayer {
        /// The artifact.
        origin: String,
        /// What was asked for.
        expected: String,
        /// What there is.
        layers: String,
    },
    /// The pull secret cannot be used.
    #[error("cannot use the pull secret {}", path.display())]
    Secret {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: SecretError,
    },
    /// It took too long.
    #[error("{origin} was not there after {} s", limit.as_secs())]
    Deadline {
        /// What was asked for.
        origin: String,
        /// The limit.
        limit: Duration,
    },
    /// The node's file system refused.
    #[error("cannot {operation} {}", path.display())]
    Host {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
}

impl FetchError {
    /// The word for the report.
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

    /// Gives an error of the file system its operation and its object.
    fn host(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Host {
            operation,
            path: path.to_owned(),
            source,
        }
    }
}

impl Fetcher {
    /// Gets `artifact`. A download becomes a hidden file in `folder`, which is made if it is
    /// missing.
    ///
    /// The caller holds the node's lock: what killed attempts left in `folder` is removed here.
    ///
    /// # Errors
    /// See [`FetchError`]; nothing is left behind.
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

/// Lower-case hexadecimal digits of `bytes`.
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
