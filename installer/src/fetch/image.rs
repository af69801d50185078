//! Downloads an archive that is a layer of an OCI artifact.

use std::net::IpAddr;
use std::path::Path;

use futures::TryStreamExt as _;
use oci_client::Reference;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError};
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;

use super::download::Download;
use super::url::USER_AGENT;
use super::{Archive, FetchError, Fetcher, Limits, retry, secret};

/// The media types that a reference may have.
const ACCEPTED: &[&str] = &[
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
/// Maximum number of manifests to read of one index: one per architecture, and signatures.
const MAX_MANIFESTS: usize = 32;

/// The layers of a manifest, or the manifests of an index.
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Descriptor {
    digest: String,
}

/// An artifact, and the client of its registry.
struct Source<'a> {
    client: Client,
    auth: RegistryAuth,
    reference: Reference,
    origin: &'a str,
}

/// Downloads the layer `sha256` of `reference`.
pub(super) async fn fetch(
    reference: &str,
    sha256: &str,
    folder: &Path,
    fetcher: &Fetcher,
) -> Result<Archive, FetchError> {
    let Ok(parsed) = reference.parse::<Reference>() else {
        return Err(FetchError::Reference {
            reference: reference.to_owned(),
        });
    };
    let registry = parsed.resolve_registry();
    let auth =
        secret::auth_for(registry, &fetcher.pull_secret).map_err(|source| FetchError::Secret {
            path: fetcher.pull_secret.clone(),
            source,
        })?;
    let source = Source {
        client: client(registry, &fetcher.limits)?,
        auth,
        reference: parsed,
        origin: reference,
    };
    retry::with_backoff(reference, &fetcher.limits, async || {
        source.pull(sha256, folder, fetcher.limits.size).await
    })
    .await
}

impl Source<'_> {
    async fn pull(&self, sha256: &str, folder: &Path, limit: u64) -> Result<Archive, FetchError> {
        let digest = format!("sha256:{sha256}");
        self.check_layer(&digest, sha256).await?;
        let mut answer = self
            .client
            .pull_blob_stream(&self.reference, digest.as_str())
            .await
            .map_err(|error| self.refused(error))?;
        let mut download = Download::new(self.origin, folder, limit)?;
        download.check_length(answer.content_length)?;
        loop {
            match answer.try_next().await {
                Ok(Some(bytes)) => download.append(&bytes)?,
                Ok(None) => return download.finish(sha256),
                // The client compares the digest too, after it has returned every byte.
                Err(error) if is_about_digest(&error) => return download.finish(sha256),
                Err(error) => {
                    return Err(FetchError::Connection {
                        origin: self.origin.to_owned(),
                        source: error.into(),
                    });
                }
            }
        }
    }

    /// Checks that the artifact's manifest, or one of its index, has the layer.
    async fn check_layer(&self, digest: &str, sha256: &str) -> Result<(), FetchError> {
        let document = self.document(&self.reference).await?;
        let mut layers: Vec<Descriptor> = document.layers;
        for manifest in document.manifests.into_iter().take(MAX_MANIFESTS) {
            layers.extend(
                self.document(&self.reference.clone_with_digest(manifest.digest))
                    .await?
                    .layers,
            );
        }
        if layers.iter().any(|layer| layer.digest == digest) {
            return Ok(());
        }
        let layers: Vec<&str> = layers
            .iter()
            .take(4)
            .map(|layer| layer.digest.as_str())
            .collect();
        let layers = if layers.is_empty() {
            "none".to_owned()
        } else {
            layers.join(", ")
        };
        Err(FetchError::NoLayer {
            origin: self.origin.to_owned(),
            expected: sha256.to_owned(),
            layers,
        })
    }

    async fn document(&self, reference: &Reference) -> Result<Document, FetchError> {
        let pulled = self
            .client
            .pull_manifest_raw(reference, &self.auth, ACCEPTED)
            .await;
        let (text, _) = pulled.map_err(|error| self.refused(error))?;
        serde_json::from_slice(&text).map_err(|source| FetchError::Artifact {
            origin: self.origin.to_owned(),
            source,
        })
    }

    fn refused(&self, error: OciDistributionError) -> FetchError {
        FetchError::Registry {
            origin: self.origin.to_owned(),
            source: Box::new(error),
        }
    }
}

/// Returns whether the client reports that a layer has another digest.
fn is_about_digest(error: &std::io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<DigestError>)
}

fn client(registry: &str, limits: &Limits) -> Result<Client, FetchError> {
    let config = ClientConfig {
        protocol: if is_plain(registry) {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        },
        connect_timeout: Some(limits.connect),
        read_timeout: Some(limits.idle),
        user_agent: USER_AGENT,
        ..ClientConfig::default()
    };
    Client::try_from(config).map_err(|error| FetchError::Client {
        source: error.into(),
    })
}

/// Returns whether `registry` (`host` or `host:port`) is called without TLS: this machine, and
/// names that no public registry can have (`.local`). The digest is verified in either case.
fn is_plain(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    };
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost"
        || host
            .rsplit_once('.')
            .is_some_and(|(_, domain)| domain.eq_ignore_ascii_case("local"))
        || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn only_local_registries_are_called_without_tls() {
        for registry in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "[::1]:5000",
            "registry.local:5000",
        ] {
            assert!(is_plain(registry), "{registry}");
        }
        for registry in [
            "ghcr.io",
            "10.0.0.1:5000",
            "registry.example:5000",
            "local",
            "notlocalhost",
        ] {
            assert!(!is_plain(registry), "{registry}");
        }
    }
}
