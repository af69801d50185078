//! What becomes of a request, whatever happens to it and to whoever sent it.

use std::time::Duration;

use containerd_shim_protos::ttrpc::{Code, Error};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::*;

/// Far more than what is waited for takes.
const LIMIT: Duration = Duration::from_secs(20);

fn code<T: std::fmt::Debug>(result: TtrpcResult<T>) -> (Code, String) {
    match result {
        Err(Error::RpcStatus(status)) => (status.code(), status.message),
        other => panic!("{other:?} is no answer with a code"),
    }
}

#[tokio::test]
async fn a_panic_fails_one_request_and_says_which() {
    let deed = answered::<()>("pids", async { panic!("no list of {}", "processes") }).await;
    let wait = awaited::<()>("pids", async { panic!("no list of processes") }).await;
    for failed in [deed, wait] {
        let (failed_code, text) = code(failed);
        assert_eq!(failed_code, Code::INTERNAL);
        assert!(
            text.contains("pids") && text.contains("no list of processes"),
            "{text}"
        );
    }
    assert_eq!(answered("pids", async { Ok(1) }).await.unwrap(), 1);
}

#[tokio::test]
async fn an_answer_has_the_errors_code_and_words() {
    let (code, text) = code(
        answered::<()>("state", async {
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

/// A request that is given up in the middle of its deed, which then ends with `result`; whether it
/// was done, and undone.
async fn given_up(result: Result<(), TaskError>) -> (bool, bool) {
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
    let request = tokio::spawn(answered_or_undone("start", work, async move {
        let _ = undone.send(());
    }));
    timeout(LIMIT, begun.notified()).await.unwrap();
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    go_on.notify_one();
    (
        timeout(LIMIT, is_done).await.unwrap().is_ok(),
        timeout(LIMIT, is_undone).await.unwrap().is_ok(),
    )
}

#[tokio::test]
async fn what_was_begun_is_done_also_when_nobody_waits_for_it_any_more() {
    assert_eq!(
        given_up(Ok(())).await,
        (true, true),
        "what nobody knows of is undone"
    );
    assert_eq!(
        given_up(Err(TaskError::NotFound {
            id: "c1".to_owned()
        }))
        .await,
        (true, false),
        "a failure leaves nothing to undo"
    );
}

#[tokio::test]
async fn a_wait_ends_with_whoever_waits() {
    let (held, is_dropped) = oneshot::channel::<()>();
    let wait = async move {
        let _held = held;
        std::future::pending::<Result<(), TaskError>>().await
    };
    assert!(
        timeout(Duration::from_millis(1), awaited("wait", wait))
            .await
            .is_err()
    );
    assert!(timeout(LIMIT, is_dropped).await.unwrap().is_err());
}
