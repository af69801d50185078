//! The archive behind a URL.

use std::path::Path;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Url};

use super::download::Download;
use super::{Archive, FetchError, Limits, retry};

/// Places that a download is sent on to.
const REDIRECTS: usize = 5;
/// Who asks.
pub(super) const USER_AGENT: &str = concat!("node-installer/", env!("CARGO_PKG_VERSION"));

/// Downloads `url`.
pub(super) async fn fetch(
    url: &str,
    sha256: &str,
    folder: &Path,
    limits: &Limits,
) -> Result<Archive, FetchError> {
    let parsed = Url::parse(url)
        .ok()
        .filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host());
    let Some(parsed) = parsed else {
        return Err(FetchError::Address {
            url: url.to_owned(),
        });
    };
    let client = client(limits)?;
    let origin = shown(&parsed);
    retry::until_there(&origin, limits, async || {
        once(&client, &parsed, &origin, sha256, folder, limits.size).await
    })
    .await
}

async fn once(
    client: &Client,
    url: &Url,
    origin: &str,
    sha256: &str,
    folder: &Path,
    limit: u64,
) -> Result<Archive, FetchError> {
    // The address is in our own text, without what may be secret in it.
    let failed = |error: reqwest::Error| FetchError::Connection {
        origin: origin.to_owned(),
        source: error.without_url().into(),
    };
    let mut answer = client.get(url.clone()).send().await.map_err(failed)?;
    if !answer.status().is_success() {
        return Err(FetchError::Status {
            origin: origin.to_owned(),
            status: answer.status().as_u16(),
        });
    }
    let mut download = Download::new(origin, folder, limit)?;
    download.announce(answer.content_length())?;
    while let Some(bytes) = answer.chunk().await.map_err(failed)? {
        download.take(&bytes)?;
    }
    download.finish(sha256)
}

fn client(limits: &Limits) -> Result<Client, FetchError> {
    Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(limits.connect)
        .read_timeout(limits.idle)
        .redirect(Policy::custom(follow))
        // The digest is that of the file as it lies on the server.
        .no_gzip()
        .no_zstd()
        .build()
        .map_err(|error| FetchError::Client {
            source: error.into(),
        })
}

/// Follows a few times, and never from an encrypted connection to a plain one.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let was_https = attempt
        .previous()
        .last()
        .is_some_and(|url| url.scheme() == "https");
    if attempt.previous().len() > REDIRECTS {
        attempt.error("it was sent on too often")
    } else if was_https && attempt.url().scheme() != "https" {
        attempt.error("it was sent on from https to a plain connection")
    } else {
        attempt.follow()
    }
}

/// `url` for people: without what may be secret in it, a user's password or a signature.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    // Only an address without a host refuses these.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.set_fragment(None);
    shown.into()
}
