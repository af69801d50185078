//! Downloads from test servers, well-behaved and faulty ones.

use std::fs;
use std::time::{Duration, Instant};

use installer_protocol::{Artifact, Reason};
use node_installer::fetch::FetchError;

use crate::server::{Answer, BYTES, Fixture, Server, bytes, hex, manifest, registry, write};

#[cfg(test)]
mod server;

#[tokio::test]
async fn download_is_removed_when_its_archive_is_dropped() {
    let (fixture, server) = (Fixture::new(), Server::start().at("/a", [bytes()]));
    let archive = fixture.url(&server.url("/a")).await.unwrap();
    assert_eq!(
        (
            fs::read(&archive.path).unwrap().as_slice(),
            archive.sha256.as_str()
        ),
        (BYTES, hex(BYTES).as_str())
    );
    drop(archive);
    assert_eq!(fs::read_dir(fixture.downloads()).unwrap().count(), 0);
}

#[tokio::test]
async fn download_with_another_digest_is_refused_and_not_retried() {
    let (fixture, server) = (
        Fixture::new(),
        Server::start().at("/a", [Answer::Bytes(b"something else".to_vec())]),
    );
    let error = fixture.nothing_is_left(fixture.url(&server.url("/a")).await);
    assert_eq!(error.reason(), Reason::DigestMismatch);
    assert!(
        error.to_string().contains(&hex(b"something else"))
            && error.to_string().contains(&hex(BYTES)),
        "{error}"
    );
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn transient_failure_is_retried() {
    for first in [
        Answer::Status(503, String::new()),
        Answer::Status(429, String::new()),
        Answer::Short(100, BYTES.to_vec()),
        Answer::Silence,
    ] {
        let (fixture, server) = (Fixture::new(), Server::start().at("/a", [first, bytes()]));
        fixture.url(&server.url("/a")).await.unwrap();
        assert_eq!(server.asked().len(), 2);
    }
}

#[tokio::test]
async fn permanent_failure_is_not_retried() {
    let (fixture, server) = (Fixture::new(), Server::start());
    let error = fixture.nothing_is_left(fixture.url(&server.url("/a")).await);
    assert!(
        error.to_string().contains("404") && error.to_string().contains(&server.url("/a")),
        "{error}"
    );
    assert_eq!(
        (error.reason(), server.asked().len()),
        (Reason::Download, 1)
    );
}

#[tokio::test]
async fn last_failure_is_returned_after_the_last_attempt() {
    let (fixture, server) = (
        Fixture::new(),
        Server::start().at("/a", [Answer::Status(500, String::new())]),
    );
    let error = fixture.nothing_is_left(fixture.url(&server.url("/a")).await);
    assert!(error.to_string().contains("500"), "{error}");
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn download_takes_no_longer_than_the_deadline() {
    let (mut fixture, server) = (Fixture::new(), Server::start().at("/a", [Answer::Silence]));
    fixture.fetcher.limits.idle = Duration::from_mins(1);
    fixture.fetcher.limits.total = Duration::from_millis(200);
    let started = Instant::now();
    let error = fixture.nothing_is_left(fixture.url(&server.url("/a")).await);
    assert!(matches!(error, FetchError::Deadline { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn download_over_the_size_limit_is_refused() {
    for answer in [Answer::Endless, Answer::Short(2 << 20, Vec::new())] {
        let (fixture, server) = (Fixture::new(), Server::start().at("/a", [answer]));
        let error = fixture.nothing_is_left(fixture.url(&server.url("/a")).await);
        assert!(matches!(error, FetchError::TooLarge { .. }), "{error:?}");
        assert_eq!(
            (error.reason(), server.asked().len()),
            (Reason::InvalidArtifact, 1)
        );
    }
}

#[tokio::test]
async fn download_follows_a_limited_number_of_redirects() {
    let to = |path: &str| Answer::Status(302, format!("location: {path}\r\n"));
    let fixture = Fixture::new();
    let server = Server::start()
        .at("/a", [to("/b")])
        .at("/b", [to("/c")])
        .at("/c", [bytes()])
        .at("/loop", [to("/loop")]);
    fixture.url(&server.url("/a")).await.unwrap();
    let error = fixture.nothing_is_left(fixture.url(&server.url("/loop")).await);
    assert_eq!(error.reason(), Reason::Download);
    assert!(server.asked().len() < 3 + 8, "{:?}", server.asked());
}

#[tokio::test]
async fn error_does_not_contain_the_secrets_of_an_address() {
    let (fixture, server) = (Fixture::new(), Server::start());
    let url = format!(
        "http://me:hunter2@{}/a?signature=hunter2#hunter2",
        server.address
    );
    let error = fixture.url(&url).await.unwrap_err();
    let gone = fixture
        .url("http://me:hunter2@127.0.0.1:1/a?s=hunter2")
        .await
        .unwrap_err();
    for error in [error, gone] {
        let text = format!("{:#}", anyhow::Error::from(error));
        assert!(!text.contains("hunter2") && text.contains("/a"), "{text}");
    }
}

#[tokio::test]
async fn address_is_http_or_https() {
    for url in [
        "ftp://example.org/a",
        "file:///etc/passwd",
        "example.org/a",
        "",
    ] {
        let error = Fixture::new().url(url).await.unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidRequest, "{url}: {error:?}");
    }
}

#[tokio::test]
async fn unfinished_downloads_of_killed_runs_are_removed() {
    let (fixture, server) = (Fixture::new(), Server::start().at("/a", [bytes()]));
    fs::create_dir_all(fixture.downloads()).unwrap();
    fs::write(fixture.downloads().join(".fetch-old.tar.gz"), "half").unwrap();
    fs::write(fixture.downloads().join("other"), "stays").unwrap();
    drop(fixture.url(&server.url("/a")).await.unwrap());
    let left: Vec<_> = fs::read_dir(fixture.downloads())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["other"]);
}

#[tokio::test]
async fn unwritable_download_folder_is_reported_as_host_files() {
    let (fixture, server) = (Fixture::new(), Server::start().at("/a", [bytes()]));
    fs::write(fixture.downloads(), "in the way").unwrap();
    let error = fixture.url(&server.url("/a")).await.unwrap_err();
    assert_eq!(error.reason(), Reason::HostFiles, "{error:?}");
}

#[tokio::test]
async fn bundled_archive_is_verified_with_the_digest_beside_it() {
    let fixture = Fixture::new();
    let beside =
        |text: &str| fs::write(fixture.folder.path().join("runtime.tar.gz.sha256"), text).unwrap();
    let error = fixture.fetch(Artifact::Bundled).await.unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidArtifact, "{error:?}");
    fs::write(&fixture.fetcher.bundled, BYTES).unwrap();
    beside(&format!("{}  runtime.tar.gz\n", hex(BYTES)));
    let archive = fixture.fetch(Artifact::Bundled).await.unwrap();
    assert_eq!(
        (archive.path.as_path(), archive.sha256.as_str()),
        (fixture.fetcher.bundled.as_path(), hex(BYTES).as_str())
    );
    // It is not a download, so it is not removed.
    drop(archive);
    assert!(fixture.fetcher.bundled.exists());
    beside(&hex(b"another"));
    assert_eq!(
        fixture.fetch(Artifact::Bundled).await.unwrap_err().reason(),
        Reason::DigestMismatch
    );
}

#[tokio::test]
async fn layer_is_found_by_its_digest() {
    let (fixture, server) = (Fixture::new(), registry(bytes()));
    let archive = fixture.image(&server, &hex(BYTES)).await.unwrap();
    assert_eq!(fs::read(&archive.path).unwrap(), BYTES);
}

#[tokio::test]
async fn layer_of_an_index_is_found() {
    let digest = format!("sha256:{}", hex(manifest().as_bytes()));
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{ "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest, "size": manifest().len() }],
    });
    let (fixture, server) = (
        Fixture::new(),
        registry(bytes()).at(
            "/v2/team/runtime/manifests/1",
            [Answer::Bytes(index.to_string().into_bytes())],
        ),
    );
    fixture.image(&server, &hex(BYTES)).await.unwrap();
}

#[tokio::test]
async fn artifact_without_the_layer_is_refused_with_its_layers() {
    let (fixture, server) = (Fixture::new(), registry(bytes()));
    let error = fixture.nothing_is_left(fixture.image(&server, &"0".repeat(64)).await);
    assert_eq!(error.reason(), Reason::DigestMismatch);
    assert!(error.to_string().contains(&hex(BYTES)), "{error}");
}

#[tokio::test]
async fn layer_with_another_digest_is_refused() {
    let (fixture, server) = (
        Fixture::new(),
        registry(Answer::Bytes(b"something else".to_vec())),
    );
    let error = fixture.nothing_is_left(fixture.image(&server, &hex(BYTES)).await);
    assert_eq!(error.reason(), Reason::DigestMismatch, "{error:?}");
    assert!(
        error.to_string().contains(&hex(b"something else")),
        "{error}"
    );
}

#[tokio::test]
async fn interrupted_layer_download_is_retried() {
    let path = format!("/v2/team/runtime/blobs/sha256:{}", hex(BYTES));
    let (fixture, server) = (
        Fixture::new(),
        registry(bytes()).at(&path, [Answer::Short(100, b"half".to_vec()), bytes()]),
    );
    fixture.image(&server, &hex(BYTES)).await.unwrap();
    assert_eq!(
        server
            .asked()
            .iter()
            .filter(|asked| **asked == path)
            .count(),
        2
    );
}

#[tokio::test]
async fn error_of_an_unknown_artifact_names_the_registry() {
    let (fixture, server) = (
        Fixture::new(),
        Server::start().at("/v2/", [Answer::Status(200, String::new())]),
    );
    let error = fixture.nothing_is_left(fixture.image(&server, &hex(BYTES)).await);
    assert_eq!(error.reason(), Reason::Download);
    assert!(
        error.to_string().contains(&server.address.to_string()),
        "{error}"
    );
}

#[tokio::test]
async fn pull_secret_is_used_for_the_registry_that_it_names() {
    let guard = |bytes: &[u8]| Answer::Guarded("Basic bWU6c2VjcmV0".to_owned(), bytes.to_vec());
    let server = registry(guard(BYTES)).at("/v2/", [guard(b"{}")]).at(
        "/v2/team/runtime/manifests/1",
        [guard(manifest().as_bytes())],
    );
    let fixture = Fixture::new();
    let error = fixture.nothing_is_left(fixture.image(&server, &hex(BYTES)).await);
    assert_eq!(error.reason(), Reason::Download, "{error:?}");
    let secret =
        |registry: &str| format!(r#"{{"auths": {{"{registry}": {{"auth": "bWU6c2VjcmV0"}}}}}}"#);
    write(&fixture.fetcher.pull_secret, &secret("registry.example"));
    fixture.image(&server, &hex(BYTES)).await.unwrap_err();
    write(
        &fixture.fetcher.pull_secret,
        &secret(&server.address.to_string()),
    );
    fixture.image(&server, &hex(BYTES)).await.unwrap();
    write(&fixture.fetcher.pull_secret, "secret");
    let error = fixture.image(&server, &hex(BYTES)).await.unwrap_err();
    assert!(matches!(error, FetchError::Secret { .. }), "{error:?}");
}

#[tokio::test]
async fn reference_names_a_registry_and_a_repository() {
    let error = Fixture::new()
        .fetch(Artifact::Image {
            reference: "UPPER CASE".to_owned(),
            sha256: hex(BYTES),
        })
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidRequest);
}
