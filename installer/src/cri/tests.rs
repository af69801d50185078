//! The CRI client without an answer, or with a late one.

use tokio::io::AsyncReadExt as _;
use tokio::net::UnixListener;

use super::*;

#[tokio::test]
async fn absent_socket_is_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("containerd.sock");
    let error = Cri::at(&socket).served().await.unwrap_err();
    assert!(
        matches!(&error, CriError::Unreachable { source,
            .. } if source.kind() == io::ErrorKind::NotFound),
        "{error:?}"
    );
}

#[tokio::test]
async fn client_connects_to_a_containerd_that_started_after_its_first_call() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("containerd.sock");
    let cri = Cri::at(&socket);
    cri.served().await.unwrap_err();
    let listener = UnixListener::bind(&socket).unwrap();
    let connected = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut preface = [0; 3];
        stream.read_exact(&mut preface).await.unwrap();
        preface
    };
    tokio::select! {
        preface = connected => assert_eq!(&preface, b"PRI"),
        answer = cri.served() => panic!("answered without a server: {answer:?}"),
    }
}

#[tokio::test]
async fn call_to_a_silent_containerd_times_out() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("containerd.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let error = Cri::at(&socket)
        .status(Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(
        matches!(error, CriError::TimedOut { call: "Status", .. }),
        "{error:?}"
    );
    drop(listener);
}

#[tokio::test]
async fn wait_for_containerd_ends_with_the_last_answer() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("containerd.sock");
    let error = Cri::at(&socket)
        .wait_until_ready(Duration::ZERO)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
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
