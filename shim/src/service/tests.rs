//! Requests that panic, fail or are cancelled.

use std::time::Duration;

use containerd_shim_protos::ttrpc::{Code, Error};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::*;

/// A multiple of what the awaited steps take.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

fn code<T: std::fmt::Debug>(result: TtrpcResult<T>) -> (Code, String) {
    match result {
        Err(Error::RpcStatus(status)) => (status.code(), status.message),
        other => panic!("{other:?} is not a status with a code"),
    }
}

#[tokio::test]
async fn panic_fails_one_request_and_names_it() {
    let deed =
        run_to_completion::<()>("pids", async { panic!("no list of {}", "processes") }).await;
    let wait = run_until_cancelled::<()>("pids", async { panic!("no list of processes") }).await;
    for failed in [deed, wait] {
        let (failed_code, text) = code(failed);
        assert_eq!(failed_code, Code::INTERNAL);
        assert!(
            text.contains("pids") && text.contains("no list of processes"),
            "{text}"
        );
    }
    assert_eq!(run_to_completion("pids", async { Ok(1) }).await.unwrap(), 1);
}

#[tokio::test]
async fn response_has_the_code_and_text_of_the_error() {
    let (code, text) = code(
        run_to_completion::<()>("state", async {
            Err(TaskError::NotFound {
                id: "c1".to_owned(),
            })
        })
        .await,
    );
    assert_eq!(
        (code, text.as_str()),
        (Code::NOT_FOUND, "there is no task c1")
    );
}

/// Cancels a request half-way, which then ends with `result`. Returns whether it was completed, and
/// whether it was undone.
async fn cancelled_half_way(result: Result<(), TaskError>) -> (bool, bool) {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (done, is_done) = oneshot::channel();
    let (undone, is_undone) = oneshot::channel();
    let work = {
        let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
        async move {
            begun.notify_one();
            go_on.notified().await;
            let _ = done.send(());
            result
        }
    };
    let request = tokio::spawn(run_or_undo("start", work, async move {
        let _ = undone.send(());
    }));
    timeout(TEST_TIMEOUT, begun.notified()).await.unwrap();
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    go_on.notify_one();
    (
        timeout(TEST_TIMEOUT, is_done).await.unwrap().is_ok(),
        timeout(TEST_TIMEOUT, is_undone).await.unwrap().is_ok(),
    )
}

#[tokio::test]
async fn cancelled_request_runs_to_completion_and_is_undone() {
    assert_eq!(
        cancelled_half_way(Ok(())).await,
        (true, true),
        "a result that containerd does not know is undone"
    );
    assert_eq!(
        cancelled_half_way(Err(TaskError::NotFound {
            id: "c1".to_owned()
        }))
        .await,
        (true, false),
        "a failure leaves nothing to undo"
    );
}

#[tokio::test]
async fn wait_ends_when_its_request_is_cancelled() {
    let (held, is_dropped) = oneshot::channel::<()>();
    let wait = async move {
        let _held = held;
        std::future::pending::<Result<(), TaskError>>().await
    };
    assert!(
        timeout(Duration::from_millis(1), run_until_cancelled("wait", wait))
            .await
            .is_err()
    );
    assert!(timeout(TEST_TIMEOUT, is_dropped).await.unwrap().is_err());
}
