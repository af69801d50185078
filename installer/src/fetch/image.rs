//! The archive as a layer of an OCI artifact.

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

/// What a reference may name.
const ACCEPTED: &[&str] = &[
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
/// Manifests of one index that are looked at: one for each processor, and signatures.
const MANIFESTS: usize = 32;

/// A manifest or an index, as far as its layers are concerned.
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

/// One artifact, and how its registry is asked.
struct Source<'a> {
    client: Client,
    auth: RegistryAuth,
    reference: Reference,
    origin: &'a str,
}

/// Pulls the layer `sha256` of `reference`.
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
    retry::until_there(reference, &fetcher.limits, async || {
        source.pull(sha256, folder, fetcher.limits.size).await
    })
    .await
}

impl Source<'_> {
    async fn pull(&self, sha256: &str, folder: &Path, limit: u64) -> Result<Archive, FetchError> {
        let digest = format!("sha256:{sha256}");
        self.must_have(&digest, sha256).await?;
        let mut answer = self
            .client
            .pull_blob_stream(&self.reference, digest.as_str())
            .await
            .map_err(|error| self.refused(error))?;
        let mut download = Download::new(self.origin, folder, limit)?;
        download.announce(answer.content_length)?;
        loop {
            match answer.try_next().await {
                Ok(Some(bytes)) => download.take(&bytes)?,
                Ok(None) => return download.finish(sha256),
                // The client compares, too; it hands out every byte before it says so.
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

    /// Looks for the layer in the artifact's manifest, or in those behind its index.
    async fn must_have(&self, digest: &str, sha256: &str) -> Result<(), FetchError> {
        let document = self.document(&self.reference).await?;
        let mut layers: Vec<Descriptor> = document.layers;
        for manifest in document.manifests.into_iter().take(MANIFESTS) {
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

/// Whether the client says that a layer's bytes are not what its digest says.
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

/// Whether `registry` (`host` or `host:port`) is spoken to without TLS: this machine, and the names
/// that no public registry can have (`.local`). What comes is compared with its digest either way.
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
    fn only_local_registries_are_spoken_to_in_the_clear() {
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
