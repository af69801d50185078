//! Downloads an archive from a URL.

use std::path::Path;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Url};

use super::download::Download;
use super::{Archive, FetchError, Limits, retry};

/// Maximum number of redirects.
const MAX_REDIRECTS: usize = 5;
/// The value of the User-Agent header.
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
    retry::with_backoff(&origin, limits, async || {
        download(&client, &parsed, &origin, sha256, folder, limits.size).await
    })
    .await
}

async fn download(
    client: &Client,
    url: &Url,
    origin: &str,
    sha256: &str,
    folder: &Path,
    limit: u64,
) -> Result<Archive, FetchError> {
    // The message has the address without its secrets.
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
    download.check_length(answer.content_length())?;
    while let Some(bytes) = answer.chunk().await.map_err(failed)? {
        download.append(&bytes)?;
    }
    download.finish(sha256)
}

fn client(limits: &Limits) -> Result<Client, FetchError> {
    Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(limits.connect)
        .read_timeout(limits.idle)
        .redirect(Policy::custom(follow))
        // The digest is that of the compressed file.
        .no_gzip()
        .no_zstd()
        .build()
        .map_err(|error| FetchError::Client {
            source: error.into(),
        })
}

/// Follows some redirects, but not from HTTPS to plain HTTP.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let was_https = attempt
        .previous()
        .last()
        .is_some_and(|url| url.scheme() == "https");
    if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error("too many redirects")
    } else if was_https && attempt.url().scheme() != "https" {
        attempt.error("redirect from https to an unencrypted connection")
    } else {
        attempt.follow()
    }
}

/// Returns `url` without its secrets: user, password, query and fragment.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    // This fails only for an address without a host.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.set_fragment(None);
    shown.into()
}
