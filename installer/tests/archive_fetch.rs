//! Getting an archive from servers of the tests' own, those that behave and those that do not.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use installer_protocol::{Artifact, Reason};
use node_installer::fetch::{Archive, FetchError, Fetcher, Limits};
use sha2::{Digest as _, Sha256};

const BYTES: &[u8] = b"an archive, as far as a server knows";

/// What a server does with a request for one path.
#[derive(Debug, Clone)]
enum Answer {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A status without a body, and further header lines.
    Status(u16, String),
    /// It says that there are so many bytes, sends those that it has, and hangs up.
    Short(u64, Vec<u8>),
    /// It says nothing of a length and never ends.
    Endless,
    /// It says nothing at all.
    Silence,
    /// These bytes for who says this in its `authorization` header, 401 for others.
    Guarded(String, Vec<u8>),
}

/// A server on a port of its own. Each path has its answers in order; the last one is repeated.
struct Server {
    address: SocketAddr,
    answers: Arc<Mutex<HashMap<String, Vec<Answer>>>>,
    /// Paths that were asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = Self { address: listener.local_addr().unwrap(), answers: Arc::default(), asked: Arc::default() };
        let (answers, asked) = (server.answers.clone(), server.asked.clone());
        // They end with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answers, asked) = (answers.clone(), asked.clone());
                // A client that hung up is no matter.
                std::thread::spawn(move || drop(serve(&stream.unwrap(), &answers, &asked)));
            }
        });
        server
    }

    fn at(self, path: &str, answers: impl IntoIterator<Item = Answer>) -> Self {
        self.answers.lock().unwrap().insert(path.to_owned(), answers.into_iter().collect());
        self
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(stream: &TcpStream, answers: &Mutex<HashMap<String, Vec<Answer>>>, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    asked.lock().unwrap().push(path.clone());
    let answer = {
        let mut answers = answers.lock().unwrap();
        match answers.get_mut(&path) {
            Some(list) if list.len() > 1 => list.remove(0),
            Some(list) => list[0].clone(),
            None => Answer::Status(404, String::new()),
        }
    };
    let mut out = stream;
    let mut whole = |bytes: &[u8]| {
        write!(out, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", bytes.len())?;
        out.write_all(bytes)
    };
    match answer {
        Answer::Bytes(bytes) => whole(&bytes),
        Answer::Guarded(who, bytes) if headers.iter().any(|line| line.eq_ignore_ascii_case(&format!("authorization: {who}"))) => {
            whole(&bytes)
        }
        Answer::Guarded(..) => write!(out, "HTTP/1.1 401 X\r\nwww-authenticate: Basic\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"),
        Answer::Status(status, more) => write!(out, "HTTP/1.1 {status} X\r\nconnection: close\r\n{more}content-length: 0\r\n\r\n"),
        Answer::Short(length, bytes) => {
            write!(out, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n")?;
            out.write_all(&bytes)
        }
        Answer::Endless => {
            write!(out, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
            loop {
                out.write_all(&[0; 4096])?;
            }
        }
        Answer::Silence => {
            std::thread::park();
            Ok(())
        }
    }
}

/// A folder for downloads.
struct Bed {
    folder: tempfile::TempDir,
    fetcher: Fetcher,
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits {
            attempts: 3,
            pause: Duration::from_millis(1),
            connect: Duration::from_secs(5),
            idle: Duration::from_millis(300),
            total: Duration::from_secs(20),
            size: 1 << 20,
        };
        let fetcher = Fetcher { bundled: folder.path().join("runtime.tar.gz"), pull_secret: folder.path().join("config.json"), limits };
        Self { folder, fetcher }
    }

    fn downloads(&self) -> PathBuf {
        self.folder.path().join("downloads")
    }

    async fn fetch(&self, artifact: Artifact) -> Result<Archive, FetchError> {
        self.fetcher.fetch(&artifact, &self.downloads()).await
    }

    async fn url(&self, url: &str) -> Result<Archive, FetchError> {
        self.fetch(Artifact::Url { url: url.to_owned(), sha256: hex(BYTES) }).await
    }

    async fn image(&self, server: &Server, sha256: &str) -> Result<Archive, FetchError> {
        let reference = format!("{}/team/runtime:1", server.address);
        self.fetch(Artifact::Image { reference, sha256: sha256.to_owned() }).await
    }

    /// The error, after which nothing may be left.
    fn nothing_is_left(&self, result: Result<Archive, FetchError>) -> FetchError {
        let error = result.unwrap_err();
        assert_eq!(fs::read_dir(self.downloads()).unwrap().count(), 0, "something is left after {error}");
        error
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes() -> Answer {
    Answer::Bytes(BYTES.to_vec())
}

#[tokio::test]
async fn a_download_lives_as_long_as_its_value() {
    let (bed, server) = (Bed::new(), Server::start().at("/a", [bytes()]));
    let archive = bed.url(&server.url("/a")).await.unwrap();
    assert_eq!((fs::read(&archive.path).unwrap().as_slice(), archive.sha256.as_str()), (BYTES, hex(BYTES).as_str()));
    drop(archive);
    assert_eq!(fs::read_dir(bed.downloads()).unwrap().count(), 0);
}

#[tokio::test]
async fn other_bytes_are_refused_at_once() {
    let (bed, server) = (Bed::new(), Server::start().at("/a", [Answer::Bytes(b"something else".to_vec())]));
    let error = bed.nothing_is_left(bed.url(&server.url("/a")).await);
    assert_eq!(error.reason(), Reason::DigestMismatch);
    assert!(error.to_string().contains(&hex(b"something else")) && error.to_string().contains(&hex(BYTES)), "{error}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    for first in
        [Answer::Status(503, String::new()), Answer::Status(429, String::new()), Answer::Short(100, BYTES.to_vec()), Answer::Silence]
    {
        let (bed, server) = (Bed::new(), Server::start().at("/a", [first, bytes()]));
        bed.url(&server.url("/a")).await.unwrap();
        assert_eq!(server.asked().len(), 2);
    }
}

#[tokio::test]
async fn what_will_not_pass_is_not_tried_again() {
    let (bed, server) = (Bed::new(), Server::start());
    let error = bed.nothing_is_left(bed.url(&server.url("/a")).await);
    assert!(error.to_string().contains("404") && error.to_string().contains(&server.url("/a")), "{error}");
    assert_eq!((error.reason(), server.asked().len()), (Reason::Download, 1));
}

#[tokio::test]
async fn after_the_last_attempt_the_last_failure_is_told() {
    let (bed, server) = (Bed::new(), Server::start().at("/a", [Answer::Status(500, String::new())]));
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
        assert_eq!((error.reason(), server.asked().len()), (Reason::InvalidArtifact, 1));
    }
}

#[tokio::test]
async fn a_download_is_sent_on_a_few_times_only() {
    let to = |path: &str| Answer::Status(302, format!("location: {path}\r\n"));
    let bed = Bed::new();
    let server = Server::start().at("/a", [to("/b")]).at("/b", [to("/c")]).at("/c", [bytes()]).at("/loop", [to("/loop")]);
    bed.url(&server.url("/a")).await.unwrap();
    let error = bed.nothing_is_left(bed.url(&server.url("/loop")).await);
    assert_eq!(error.reason(), Reason::Download);
    assert!(server.asked().len() < 3 + 8, "{:?}", server.asked());
}

#[tokio::test]
async fn what_is_secret_in_an_address_is_not_told() {
    let (bed, server) = (Bed::new(), Server::start());
    let url = format!("http://me:hunter2@{}/a?signature=hunter2#hunter2", server.address);
    let error = bed.url(&url).await.unwrap_err();
    let gone = bed.url("http://me:hunter2@127.0.0.1:1/a?s=hunter2").await.unwrap_err();
    for error in [error, gone] {
        let text = format!("{:#}", anyhow::Error::from(error));
        assert!(!text.contains("hunter2") && text.contains("/a"), "{text}");
    }
}

#[tokio::test]
async fn an_address_is_http_or_https() {
    for url in ["ftp://example.org/a", "file:///etc/passwd", "example.org/a", ""] {
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
    let left: Vec<_> = fs::read_dir(bed.downloads()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
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
    let beside = |text: &str| fs::write(bed.folder.path().join("runtime.tar.gz.sha256"), text).unwrap();
    let error = bed.fetch(Artifact::Bundled).await.unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidArtifact, "{error:?}");
    fs::write(&bed.fetcher.bundled, BYTES).unwrap();
    beside(&format!("{}  runtime.tar.gz\n", hex(BYTES)));
    let archive = bed.fetch(Artifact::Bundled).await.unwrap();
    assert_eq!((archive.path.as_path(), archive.sha256.as_str()), (bed.fetcher.bundled.as_path(), hex(BYTES).as_str()));
    // It is no download of ours to remove.
    drop(archive);
    assert!(bed.fetcher.bundled.exists());
    beside(&hex(b"another"));
    assert_eq!(bed.fetch(Artifact::Bundled).await.unwrap_err().reason(), Reason::DigestMismatch);
}

/// A registry with one artifact whose one layer has the digest of `BYTES`, and holds `blob`.
fn registry(blob: Answer) -> Server {
    let manifest = manifest();
    let by_digest = format!("/v2/team/runtime/manifests/sha256:{}", hex(manifest.as_bytes()));
    Server::start()
        .at("/v2/", [Answer::Status(200, String::new())])
        .at("/v2/team/runtime/manifests/1", [Answer::Bytes(manifest.clone().into_bytes())])
        .at(&by_digest, [Answer::Bytes(manifest.into_bytes())])
        .at(&format!("/v2/team/runtime/blobs/sha256:{}", hex(BYTES)), [blob])
}

fn manifest() -> String {
    let layer = serde_json::json!({ "mediaType": "application/gzip", "digest": format!("sha256:{}", hex(BYTES)), "size": BYTES.len() });
    let kind = "application/vnd.oci.image.manifest.v1+json";
    serde_json::json!({ "schemaVersion": 2, "mediaType": kind, "config": layer, "layers": [layer] }).to_string()
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
        "manifests": [{ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": manifest().len() }],
    });
    let (bed, server) = (Bed::new(), registry(bytes()).at("/v2/team/runtime/manifests/1", [Answer::Bytes(index.to_string().into_bytes())]));
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
    let (bed, server) = (Bed::new(), registry(Answer::Bytes(b"something else".to_vec())));
    let error = bed.nothing_is_left(bed.image(&server, &hex(BYTES)).await);
    assert_eq!(error.reason(), Reason::DigestMismatch, "{error:?}");
    assert!(error.to_string().contains(&hex(b"something else")), "{error}");
}

#[tokio::test]
async fn a_registry_that_stops_in_the_middle_is_asked_again() {
    let path = format!("/v2/team/runtime/blobs/sha256:{}", hex(BYTES));
    let (bed, server) = (Bed::new(), registry(bytes()).at(&path, [Answer::Short(100, b"half".to_vec()), bytes()]));
    bed.image(&server, &hex(BYTES)).await.unwrap();
    assert_eq!(server.asked().iter().filter(|asked| **asked == path).count(), 2);
}

#[tokio::test]
async fn a_registry_that_knows_no_such_artifact_is_named() {
    let (bed, server) = (Bed::new(), Server::start().at("/v2/", [Answer::Status(200, String::new())]));
    let error = bed.nothing_is_left(bed.image(&server, &hex(BYTES)).await);
    assert_eq!(error.reason(), Reason::Download);
    assert!(error.to_string().contains(&server.address.to_string()), "{error}");
}

#[tokio::test]
async fn a_pull_secret_opens_the_registry_that_it_names() {
    let guard = |bytes: &[u8]| Answer::Guarded("Basic bWU6c2VjcmV0".to_owned(), bytes.to_vec());
    let server = registry(guard(BYTES)).at("/v2/", [guard(b"{}")]).at("/v2/team/runtime/manifests/1", [guard(manifest().as_bytes())]);
    let bed = Bed::new();
    let error = bed.nothing_is_left(bed.image(&server, &hex(BYTES)).await);
    assert_eq!(error.reason(), Reason::Download, "{error:?}");
    let secret = |registry: &str| format!(r#"{{"auths": {{"{registry}": {{"auth": "bWU6c2VjcmV0"}}}}}}"#);
    write(&bed.fetcher.pull_secret, &secret("registry.example"));
    bed.image(&server, &hex(BYTES)).await.unwrap_err();
    write(&bed.fetcher.pull_secret, &secret(&server.address.to_string()));
    bed.image(&server, &hex(BYTES)).await.unwrap();
    write(&bed.fetcher.pull_secret, "secret");
    let error = bed.image(&server, &hex(BYTES)).await.unwrap_err();
    assert!(matches!(error, FetchError::Secret { .. }), "{error:?}");
}

#[tokio::test]
async fn a_reference_names_a_registry_and_a_repository() {
    let error = Bed::new().fetch(Artifact::Image { reference: "UPPER CASE".to_owned(), sha256: hex(BYTES) }).await.unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidRequest);
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}
