//! The wait for a containerd that does not start.

use super::*;

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
