//! A scripted HTTP server, and a folder for downloads.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use installer_protocol::Artifact;
use node_installer::fetch::{Archive, FetchError, Fetcher, Limits};
use sha2::{Digest as _, Sha256};

pub(crate) const BYTES: &[u8] = b"an archive, as far as a server knows";

/// The server's behaviour at a request for a path.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Sends these bytes.
    Bytes(Vec<u8>),
    /// Sends a status without a body, and further header lines.
    Status(u16, String),
    /// Announces a length, sends fewer bytes, and closes the connection.
    Short(u64, Vec<u8>),
    /// Sends bytes without an announced length and without an end.
    Endless,
    /// Sends nothing.
    Silence,
    /// Sends these bytes to requests with this `authorization` header, 401 to others.
    Guarded(String, Vec<u8>),
}

/// A server on its own port. Each path has its answers in order; the last one is repeated.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    answers: Arc<Mutex<HashMap<String, Vec<Answer>>>>,
    /// The requested paths.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            answers: Arc::default(),
            asked: Arc::default(),
        };
        let (answers, asked) = (server.answers.clone(), server.asked.clone());
        // They end with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answers, asked) = (answers.clone(), asked.clone());
                // The client may close the connection early.
                std::thread::spawn(move || drop(serve(&stream.unwrap(), &answers, &asked)));
            }
        });
        server
    }

    pub(crate) fn at(self, path: &str, answers: impl IntoIterator<Item = Answer>) -> Self {
        self.answers
            .lock()
            .unwrap()
            .insert(path.to_owned(), answers.into_iter().collect());
        self
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(
    stream: &TcpStream,
    answers: &Mutex<HashMap<String, Vec<Answer>>>,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let headers: Vec<String> = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
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
        write!(
            out,
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            bytes.len()
        )?;
        out.write_all(bytes)
    };
    match answer {
        Answer::Bytes(bytes) => whole(&bytes),
        Answer::Guarded(who, bytes)
            if headers
                .iter()
                .any(|line| line.eq_ignore_ascii_case(&format!("authorization: {who}"))) =>
        {
            whole(&bytes)
        }
        Answer::Guarded(..) => write!(
            out,
            "HTTP/1.1 401 X\r\nwww-authenticate: Basic\r\nconnection: close\r\ncontent-length: \
             0\r\n\r\n"
        ),
        Answer::Status(status, more) => write!(
            out,
            "HTTP/1.1 {status} X\r\nconnection: close\r\n{more}content-length: 0\r\n\r\n"
        ),
        Answer::Short(length, bytes) => {
            write!(
                out,
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
            )?;
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
pub(crate) struct Fixture {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) fetcher: Fetcher,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits {
            attempts: 3,
            backoff: Duration::from_millis(1),
            connect: Duration::from_secs(5),
            idle: Duration::from_millis(300),
            total: Duration::from_secs(20),
            size: 1 << 20,
        };
        let fetcher = Fetcher {
            bundled: folder.path().join("runtime.tar.gz"),
            pull_secret: folder.path().join("config.json"),
            limits,
        };
        Self { folder, fetcher }
    }

    pub(crate) fn downloads(&self) -> PathBuf {
        self.folder.path().join("downloads")
    }

    pub(crate) async fn fetch(&self, artifact: Artifact) -> Result<Archive, FetchError> {
        self.fetcher.fetch(&artifact, &self.downloads()).await
    }

    pub(crate) async fn url(&self, url: &str) -> Result<Archive, FetchError> {
        self.fetch(Artifact::Url {
            url: url.to_owned(),
            sha256: hex(BYTES),
        })
        .await
    }

    pub(crate) async fn image(&self, server: &Server, sha256: &str) -> Result<Archive, FetchError> {
        let reference = format!("{}/team/runtime:1", server.address);
        self.fetch(Artifact::Image {
            reference,
            sha256: sha256.to_owned(),
        })
        .await
    }

    /// Returns the error and checks that no file stays.
    pub(crate) fn nothing_is_left(&self, result: Result<Archive, FetchError>) -> FetchError {
        let error = result.unwrap_err();
        assert_eq!(
            fs::read_dir(self.downloads()).unwrap().count(),
            0,
            "something is left after {error}"
        );
        error
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
}

pub(crate) fn bytes() -> Answer {
    Answer::Bytes(BYTES.to_vec())
}

/// Makes a registry with one artifact of one layer, with the digest of `BYTES` and the content
/// `blob`.
pub(crate) fn registry(blob: Answer) -> Server {
    let manifest = manifest();
    let by_digest = format!(
        "/v2/team/runtime/manifests/sha256:{}",
        hex(manifest.as_bytes())
    );
    Server::start()
        .at("/v2/", [Answer::Status(200, String::new())])
        .at(
            "/v2/team/runtime/manifests/1",
            [Answer::Bytes(manifest.clone().into_bytes())],
        )
        .at(&by_digest, [Answer::Bytes(manifest.into_bytes())])
        .at(
            &format!("/v2/team/runtime/blobs/sha256:{}", hex(BYTES)),
            [blob],
        )
}

pub(crate) fn manifest() -> String {
    let layer = serde_json::json!({ "mediaType": "application/gzip", "digest": format!("sha256:{}",
        hex(BYTES)), "size": BYTES.len() });
    let kind = "application/vnd.oci.image.manifest.v1+json";
    serde_json::json!({ "schemaVersion": 2, "mediaType": kind, "config": layer, "layers": [layer] })
        .to_string()
}

pub(crate) fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}
