//! Getting an archive from servers of the tests' own, those that behave and those that do not.

use std::fs;
use std::time::{Duration, Instant};

use installer_protocol::{Artifact, Reason};
use node_installer::fetch::FetchError;

use crate::server::{Answer, BYTES, Bed, Server, bytes, hex, manifest, registry, write};

#[cfg(test)]
mod server;

#[tokio::test]
async fn a_download_lives_as_long_as_its_value() {
    let (bed, server) = (Bed::new(), Server::start().at("/a", [bytes()]));
    let archive = bed.url(&server.url("/a")).await.unwrap();
    assert_eq!(
        (
            fs::read(&archive.path).unwrap().as_slice(),
            archive.sha256.as_str()
        ),
        (BYTES, hex(BYTES).as_str())
    );
    drop(archive);
    assert_eq!(fs::read_dir(bed.downloads()).unwrap().count(), 0);
}

#[tokio::test]
async fn other_bytes_are_refused_at_once() {
    let (bed, server) = (
        Bed::new(),
        Server::start().at("/a", [Answer::Bytes(b"something else".to_vec())]),
    );
    let error = bed.nothing_is_left(bed.url(&server.url("/a")).await);
    assert_eq!(error.reason(), Reason::DigestMismatch);
    assert!(
        error.to_string().contains(&hex(b"something else"))
            && error.to_string().contains(&hex(BYTES)),
        "{error}"
    );
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    for first in [
        Answer::Status(503, String::new()),
        Answer::Status(429, String::new()),
        Answer::Short(100, BYTES.to_vec()),
        Answer::Silence,
    ] {
        let (bed, server) = (Bed::new(), Server::start().at("/a", [first, bytes()]));
        bed.url(&server.url("/a")).await.unwrap();
        assert_eq!(server.asked().len(), 2);
    }
}

#[tokio::test]
async fn what_will_not_pass_is_not_tried_again() {
    let (bed, server) = (Bed::new(), Server::start());
    let error = bed.nothing_is_left(bed.url(&server.url("/a")).await);
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
async fn after_the_last_attempt_the_last_failure_is_told() {
    let (bed, server) = (
        Bed::new(),
        Server::start().at("/a", [Answer::Status(500, String::new())]),
    );
    let error = bed.nothing_is_left(bed.url(&server.url("/a")).await);
    assert!(error.to_string().contains("500"), "{error}");
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn nothing_takes_longer_than_the_deadline() {
    let (mut bed, server) = (Bed::new(), Server::start().at("/a", [Answer::Silence]));
    bed.fetcher.limits.idle = Duration::from_mins(1);
    bed.fetcher.limits.total = Duration::from_millis(200);
    let started = Instant::now();
    let error = bed.nothing_is_left(bed.url(&server.url("/a")).await);
    assert!(matches!(error, FetchError::Deadline { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn more_than_the_limit_is_never_taken() {
    for answer in [Answer::Endless, Answer::Short(2 << 20, Vec::new())] {
        let (bed, server) = (Bed::new(), Server::start().at("/a", [answer]));
        let error = bed.nothing_is_left(bed.url(&server.url("/a")).await);
        assert!(matches!(error, FetchError::TooLarge { .. }), "{error:?}");
        assert_eq!(
            (error.reason(), server.asked().len()),
            (Reason::InvalidArtifact, 1)
        );
    }
}

#[tokio::test]
async fn a_download_is_sent_on_a_few_times_only() {
    let to = |path: &str| Answer::Status(302, format!("location: {path}\r\n"));
    let bed = Bed::new();
    let server = Server::start()
        .at("/a", [to("/b")])
        .at("/b", [to("/c")])
        .at("/c", [bytes()])
        .at("/loop", [to("/loop")]);
    bed.url(&server.url("/a")).await.unwrap();
    let error = bed.nothing_is_left(bed.url(&server.url("/loop")).await);
    assert_eq!(error.reason(), Reason::Download);
    assert!(server.asked().len() < 3 + 8, "{:?}", server.asked());
}

#[tokio::test]
async fn what_is_secret_in_an_address_is_not_told() {
    let (bed, server) = (Bed::new(), Server::start());
    let url = format!(
        "http://me:hunter2@{}/a?signature=hunter2#hunter2",
        server.address
    );
    let error = bed.url(&url).await.unwrap_err();
    let gone = bed
        .url("http://me:hunter2@127.0.0.1:1/a?s=hunter2")
        .await
        .unwrap_err();
    for error in [error, gone] {
        let text = format!("{:#}", anyhow::Error::from(error));
        assert!(!text.contains("hunter2") && text.contains("/a"), "{text}");
    }
}

#[tokio::test]
async fn an_address_is_http_or_https() {
    for url in [
        "ftp://example.org/a",
        "file:///etc/passwd",
        "example.org/a",
        "",
    ] {
        let error = Bed::new().url(url).await.unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidRequest, "{url}: {error:?}");
    }
}

#[tokio::test]
async fn what_killed_attempts_left_is_removed() {
    let (bed, server) = (Bed::new(), Server::start().at("/a", [bytes()]));
    fs::create_dir_all(bed.downloads()).unwrap();
    fs::write(bed.downloads().join(".fetch-old.tar.gz"), "half").unwrap();
    fs::write(bed.downloads().join("other"), "stays").unwrap();
    drop(bed.url(&server.url("/a")).await.unwrap());
    let left: Vec<_> = fs::read_dir(bed.downloads())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["other"]);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_the_hosts_fault() {
    let (bed, server) = (Bed::new(), Server::start().at("/a", [bytes()]));
    fs::write(bed.downloads(), "in the way").unwrap();
    let error = bed.url(&server.url("/a")).await.unwrap_err();
    assert_eq!(error.reason(), Reason::HostFiles, "{error:?}");
}

#[tokio::test]
async fn the_bundled_archive_is_compared_with_the_digest_beside_it() {
    let bed = Bed::new();
    let beside =
        |text: &str| fs::write(bed.folder.path().join("runtime.tar.gz.sha256"), text).unwrap();
    let error = bed.fetch(Artifact::Bundled).await.unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidArtifact, "{error:?}");
    fs::write(&bed.fetcher.bundled, BYTES).unwrap();
    beside(&format!("{}  runtime.tar.gz\n", hex(BYTES)));
    let archive = bed.fetch(Artifact::Bundled).await.unwrap();
    assert_eq!(
        (archive.path.as_path(), archive.sha256.as_str()),
        (bed.fetcher.bundled.as_path(), hex(BYTES).as_str())
    );
    // It is no download of ours to remove.
    drop(archive);
    assert!(bed.fetcher.bundled.exists());
    beside(&hex(b"another"));
    assert_eq!(
        bed.fetch(Artifact::Bundled).await.unwrap_err().reason(),
        Reason::DigestMismatch
    );
}

#[tokio::test]
async fn a_layer_is_found_by_its_digest() {
    let (bed, server) = (Bed::new(), registry(bytes()));
    let archive = bed.image(&server, &hex(BYTES)).await.unwrap();
    assert_eq!(fs::read(&archive.path).unwrap(), BYTES);
}

#[tokio::test]
async fn a_layer_behind_an_index_is_found() {
    let digest = format!("sha256:{}", hex(manifest().as_bytes()));
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{ "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest, "size": manifest().len() }],
    });
    let (bed, server) = (
        Bed::new(),
        registry(bytes()).at(
            "/v2/team/runtime/manifests/1",
            [Answer::Bytes(index.to_string().into_bytes())],
        ),
    );
    bed.image(&server, &hex(BYTES)).await.unwrap();
}

#[tokio::test]
async fn an_artifact_without_the_layer_is_refused_with_those_that_it_has() {
    let (bed, server) = (Bed::new(), registry(bytes()));
    let error = bed.nothing_is_left(bed.image(&server, &"0".repeat(64)).await);
    assert_eq!(error.reason(), Reason::DigestMismatch);
    assert!(error.to_string().contains(&hex(BYTES)), "{error}");
}

#[tokio::test]
async fn a_registry_that_sends_another_layer_is_not_believed() {
    let (bed, server) = (
        Bed::new(),
        registry(Answer::Bytes(b"something else".to_vec())),
    );
    let error = bed.nothing_is_left(bed.image(&server, &hex(BYTES)).await);
    assert_eq!(error.reason(), Reason::DigestMismatch, "{error:?}");
    assert!(
        error.to_string().contains(&hex(b"something else")),
        "{error}"
    );
}

#[tokio::test]
async fn a_registry_that_stops_in_the_middle_is_asked_again() {
    let path = format!("/v2/team/runtime/blobs/sha256:{}", hex(BYTES));
    let (bed, server) = (
        Bed::new(),
        registry(bytes()).at(&path, [Answer::Short(100, b"half".to_vec()), bytes()]),
    );
    bed.image(&server, &hex(BYTES)).await.unwrap();
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
async fn a_registry_that_knows_no_such_artifact_is_named() {
    let (bed, server) = (
        Bed::new(),
        Server::start().at("/v2/", [Answer::Status(200, String::new())]),
    );
    let error = bed.nothing_is_left(bed.image(&server, &hex(BYTES)).await);
    assert_eq!(error.reason(), Reason::Download);
    assert!(
        error.to_string().contains(&server.address.to_string()),
        "{error}"
    );
}

#[tokio::test]
async fn a_pull_secret_opens_the_registry_that_it_names() {
    let guard = |bytes: &[u8]| Answer::Guarded("Basic bWU6c2VjcmV0".to_owned(), bytes.to_vec());
    let server = registry(guard(BYTES)).at("/v2/", [guard(b"{}")]).at(
        "/v2/team/runtime/manifests/1",
        [guard(manifest().as_bytes())],
    );
    let bed = Bed::new();
    let error = bed.nothing_is_left(bed.image(&server, &hex(BYTES)).await);
    assert_eq!(error.reason(), Reason::Download, "{error:?}");
    let secret =
        |registry: &str| format!(r#"{{"auths": {{"{registry}": {{"auth": "bWU6c2VjcmV0"}}}}}}"#);
    write(&bed.fetcher.pull_secret, &secret("registry.example"));
    bed.image(&server, &hex(BYTES)).await.unwrap_err();
    write(
        &bed.fetcher.pull_secret,
        &secret(&server.address.to_string()),
    );
    bed.image(&server, &hex(BYTES)).await.unwrap();
    write(&bed.fetcher.pull_secret, "secret");
    let error = bed.image(&server, &hex(BYTES)).await.unwrap_err();
    assert!(matches!(error, FetchError::Secret { .. }), "{error:?}");
}

#[tokio::test]
async fn a_reference_names_a_registry_and_a_repository() {
    let error = Bed::new()
        .fetch(Artifact::Image {
            reference: "UPPER CASE".to_owned(),
            sha256: hex(BYTES),
        })
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidRequest);
}
