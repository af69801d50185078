//! The client without an answer, or with a late one.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::UnixListener;

use super::*;
use crate::message::StatusRequest;

#[tokio::test]
async fn absent_socket_is_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("containerd.sock");
    let error = Client::at(&socket).status().await.unwrap_err();
    assert!(
        matches!(&error, CriError::Unreachable { source,
            .. } if source.kind() == io::ErrorKind::NotFound),
        "{error:?}"
    );
}

#[tokio::test]
async fn call_in_a_namespace_that_cannot_be_sent_is_refused() {
    let client = Client::at(Path::new("/nowhere/containerd.sock"));
    let call = client.call_in_namespace("a\nb", &method::STATUS, StatusRequest { verbose: false });
    let error = call.await.unwrap_err().to_string();
    assert!(
        error.starts_with("Status: the namespace \"a\\nb\" cannot be sent"),
        "{error}"
    );
}

#[tokio::test]
async fn client_connects_to_a_containerd_that_started_after_its_first_call() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("containerd.sock");
    let client = Client::at(&socket);
    client.status().await.unwrap_err();
    let listener = UnixListener::bind(&socket).unwrap();
    let connected = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut preface = [0; 3];
        stream.read_exact(&mut preface).await.unwrap();
        preface
    };
    tokio::select! {
        preface = connected => assert_eq!(&preface, b"PRI"),
        answer = client.status() => panic!("answered without a server: {answer:?}"),
    }
}

#[tokio::test]
async fn call_to_a_silent_containerd_times_out() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("containerd.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let error = Client::at(&socket)
        .with_timeout(Duration::from_millis(50))
        .status()
        .await
        .unwrap_err();
    assert!(
        matches!(error, CriError::TimedOut { call: "Status", .. }),
        "{error:?}"
    );
    drop(listener);
}

#[test]
fn missing_cri_service_is_distinguished_from_other_errors() {
    let of = |status: &tonic::Status| CriError::of(Path::new("/s"), "Version", status);
    let unimplemented = tonic::Status::unimplemented("unknown service runtime.v1.RuntimeService");
    assert!(
        of(&unimplemented).to_string().contains("unknown service"),
        "{}",
        of(&unimplemented)
    );
    assert!(matches!(of(&unimplemented), CriError::NotServed { .. }));
    assert!(of(&tonic::Status::not_found("no sandbox")).is_not_found());
    assert_eq!(
        of(&tonic::Status::unavailable("server is not initialized yet")).to_string(),
        "Version: server is not initialized yet"
    );
}

#[test]
fn method_has_a_path_and_a_name() {
    let method = method::LIST_POD_SANDBOX;
    assert_eq!(
        (method.path(), method.name()),
        ("runtime.v1.RuntimeService/ListPodSandbox", "ListPodSandbox")
    );
    assert_eq!(
        method::IMAGE_STATUS.path(),
        "runtime.v1.ImageService/ImageStatus"
    );
}
