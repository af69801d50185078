//! Registry access: push and pull of images.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};

use super::http::{Client, Method, Request, Rights};
use super::layout::resolve;
use super::{Blob, Credentials, Found, INDEX, MANIFEST, Packed, parse_reference};

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
        let transport = Transport::usual_for(parse_reference(reference)?.host());
        Ok(Self {
            transport,
            credentials: Credentials::Anonymous,
        })
    }
}

impl Packed {
    /// Pushes the image to the registry in its reference; returns the reference by digest.
    ///
    /// # Errors
    /// Fails if the registry cannot be reached or refuses it.
    pub fn push(&self, registry: &Registry) -> Result<String> {
        let host = self.reference.host();
        self.push_to(registry)
            .with_context(|| format!("push {} to {host}", self.reference()))?;
        Ok(format!(
            "{host}/{}@{}",
            self.reference.repository(),
            self.root.digest()
        ))
    }

    fn push_to(&self, registry: &Registry) -> Result<()> {
        let client = Client::new(registry, &self.reference, Rights::PullAndPush)?;
        for blob in &self.blobs {
            push_blob(&client, blob).with_context(|| format!("push blob {}", blob.digest()))?;
        }
        let behind = self
            .manifests
            .iter()
            .map(|manifest| (manifest.digest(), manifest));
        for (version, manifest) in behind.chain([(self.reference.version(), &self.root)]) {
            let target = format!("/manifests/{version}");
            let request = Request {
                body: Some((manifest.media_type(), manifest.bytes())),
                ..Request::bare(Method::Put, &target)
            };
            client
                .send(request)
                .and_then(|answer| answer.expect(201))
                .with_context(|| format!("push manifest {}", manifest.digest()))?;
        }
        Ok(())
    }
}

/// Pushes `blob` unless the repository has it.
fn push_blob(client: &Client<'_>, blob: &Blob) -> Result<()> {
    let digest = blob.digest();
    let found = client.send(Request::bare(Method::Head, &format!("/blobs/{digest}")))?;
    if found.status == 200 {
        return Ok(());
    }
    found.expect(404).context("look for it")?;
    let upload = client
        .send(Request::bare(Method::Post, "/blobs/uploads/"))?
        .expect(202)
        .context("start an upload")?
        .location
        .context("the registry named no address for the upload")?;
    let separator = if upload.contains('?') { '&' } else { '?' };
    client
        .send(Request {
            body: Some(("application/octet-stream", blob.bytes())),
            ..Request::bare(Method::Put, &format!("{upload}{separator}digest={digest}"))
        })?
        .expect(201)
        .map(drop)
}

/// Pulls the image `reference` and checks every digest.
///
/// # Errors
/// Fails if the registry cannot be reached or refuses, or a blob does not match its digest.
pub fn pull(reference: &str, registry: &Registry) -> Result<Found> {
    let parsed = parse_reference(reference)?;
    let client = Client::new(registry, &parsed, Rights::Pull)?;
    let get = |target: String| {
        let request = Request {
            accept: &[INDEX, MANIFEST],
            ..Request::bare(Method::Get, &target)
        };
        Ok(client.send(request)?.expect(200)?.body)
    };
    let manifest = |version: &str| get(format!("/manifests/{version}"));
    let bytes = manifest(parsed.version()).with_context(|| format!("pull {reference}"))?;
    let kind: serde_json::Value = serde_json::from_slice(&bytes)
        .with_context(|| format!("read the manifest of {reference}"))?;
    let Some(media_type) = kind["mediaType"].as_str() else {
        bail!("the manifest of {reference} has no mediaType")
    };
    let mut root = Blob::new(media_type, bytes).descriptor();
    if let Some(digest) = parsed.digest() {
        digest.clone_into(&mut root.digest);
    }
    let found = resolve(root, |descriptor| match descriptor.media_type.as_str() {
        INDEX | MANIFEST => manifest(&descriptor.digest),
        _ => {
            let digest = &descriptor.digest;
            get(format!("/blobs/{digest}")).with_context(|| format!("pull blob {digest}"))
        }
    })
    .with_context(|| format!("pull {reference}"))?;
    Ok(Found {
        reference: Some(parsed.to_string()),
        ..found
    })
}
