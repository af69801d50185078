//! Registry access: push and pull of images.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use oci_client::Reference;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use tokio::runtime::Runtime;

use super::layout::resolve;
use super::{Credentials, Descriptor, Found, INDEX, MANIFEST, Packed, parse_reference};

/// The transport of requests to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// HTTPS.
    Https,
    /// Plain HTTP, for registries on this machine and in test clusters.
    Http,
}

impl Transport {
    /// Returns the usual transport for `registry` (`host` or `host:port`): plain HTTP on this
    /// machine, otherwise HTTPS.
    pub fn usual_for(registry: &str) -> Self {
        let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
        let is_loopback = host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        if is_loopback { Self::Http } else { Self::Https }
    }
}

/// Transport and credentials for a registry.
#[derive(Debug, Clone)]
pub struct Registry {
    /// The transport.
    pub transport: Transport,
    /// The credentials.
    pub credentials: Credentials,
}

impl Registry {
    /// Returns anonymous access over the usual transport for the registry of `reference`.
    ///
    /// # Errors
    /// Fails if `reference` is not a valid reference.
    pub fn anonymous(reference: &str) -> Result<Self> {
        let transport = Transport::usual_for(parse_reference(reference)?.resolve_registry());
        Ok(Self {
            transport,
            credentials: Credentials::Anonymous,
        })
    }

    fn client(&self) -> Result<(Runtime, Client)> {
        let protocol = match self.transport {
            Transport::Https => ClientProtocol::Https,
            Transport::Http => ClientProtocol::Http,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start an async runtime")?;
        let client = Client::try_from(ClientConfig {
            protocol,
            ..ClientConfig::default()
        })
        .context("set up an HTTP client")?;
        Ok((runtime, client))
    }
}

impl Packed {
    /// Pushes the image to the registry in its reference; returns the reference by digest.
    ///
    /// # Errors
    /// Fails if the registry cannot be reached or refuses it.
    pub fn push(&self, registry: &Registry) -> Result<String> {
        let (runtime, client) = registry.client()?;
        let host = self.reference.resolve_registry().to_owned();
        runtime
            .block_on(self.push_with(&client, registry))
            .with_context(|| format!("push {} to {host}", self.reference()))?;
        Ok(format!(
            "{host}/{}@{}",
            self.reference.repository(),
            self.root.digest()
        ))
    }

    async fn push_with(&self, client: &Client, registry: &Registry) -> Result<()> {
        client
            .store_auth_if_needed(
                self.reference.resolve_registry(),
                &registry.credentials.as_auth(),
            )
            .await;
        for blob in &self.blobs {
            let digest = blob.digest();
            if client
                .blob_exists(&self.reference, digest)
                .await
                .with_context(|| format!("ask for blob {digest}"))?
            {
                continue;
            }
            client
                .push_blob(&self.reference, blob.bytes().to_vec(), digest)
                .await
                .with_context(|| format!("push blob {digest}"))?;
        }
        let by_digest = |digest: &str| self.reference.clone_with_digest(digest.to_owned());
        let behind = self
            .manifests
            .iter()
            .map(|manifest| (by_digest(manifest.digest()), manifest));
        for (reference, manifest) in behind.chain([(self.reference.clone(), &self.root)]) {
            let media_type = manifest
                .media_type()
                .parse()
                .context("use the manifest's media type as a header")?;
            client
                .push_manifest_raw(&reference, manifest.bytes().to_vec(), media_type)
                .await
                .with_context(|| format!("push manifest {}", manifest.digest()))?;
        }
        Ok(())
    }
}

/// Pulls the image `reference` and checks every digest.
///
/// # Errors
/// Fails if the registry cannot be reached or refuses, or a blob does not match its digest.
pub fn pull(reference: &str, registry: &Registry) -> Result<Found> {
    let parsed = parse_reference(reference)?;
    let (runtime, client) = registry.client()?;
    let auth = registry.credentials.as_auth();
    let manifest = |reference: &Reference| {
        let (bytes, digest) =
            runtime.block_on(client.pull_manifest_raw(reference, &auth, &[INDEX, MANIFEST]))?;
        anyhow::Ok((bytes.to_vec(), digest))
    };
    let (bytes, digest) = manifest(&parsed).with_context(|| format!("pull {reference}"))?;
    let kind: serde_json::Value = serde_json::from_slice(&bytes)
        .with_context(|| format!("read the manifest of {reference}"))?;
    let Some(media_type) = kind["mediaType"].as_str() else {
        bail!("the manifest of {reference} has no mediaType")
    };
    let root = Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size: bytes.len() as u64,
        platform: None,
        annotations: BTreeMap::default(),
    };
    let found = resolve(root, |descriptor| match descriptor.media_type.as_str() {
        INDEX | MANIFEST => Ok(manifest(&parsed.clone_with_digest(descriptor.digest.clone()))?.0),
        _ => {
            let mut bytes = Vec::new();
            runtime
                .block_on(client.pull_blob(&parsed, descriptor.digest.as_str(), &mut bytes))
                .with_context(|| format!("pull blob {}", descriptor.digest))?;
            Ok(bytes)
        }
    })
    .with_context(|| format!("pull {reference}"))?;
    Ok(Found {
        reference: Some(parsed.whole()),
        ..found
    })
}
