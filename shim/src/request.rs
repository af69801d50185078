//! Cancellation of requests: whether containerd still waits for the response.
//!
//! A request runs to completion even if containerd cancels it: stopping half-way would leak
//! resources. Only a wait that has changed nothing yet ends then.

use std::future;

use tokio::sync::watch;

tokio::task_local! {
    static CALLER: watch::Receiver<()>;
}

/// The caller's side of a request. It is dropped when the caller cancels.
#[derive(Debug)]
pub(crate) struct Caller(
    #[expect(dead_code, reason = "its drop is what is watched")] watch::Sender<()>,
);

/// Returns a caller, and `work`, within which [`cancelled`] follows that caller.
pub(crate) fn with_caller<W: Future>(work: W) -> (Caller, impl Future<Output = W::Output>) {
    let (caller, waits) = watch::channel(());
    (Caller(caller), CALLER.scope(waits, work))
}

/// Waits until the caller of this task's request cancels it; forever if there is no caller.
pub(crate) async fn cancelled() {
    match CALLER.try_with(Clone::clone) {
        Ok(mut caller) => while caller.changed().await.is_ok() {},
        Err(_) => future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn request_is_cancelled_when_its_caller_is_dropped() {
        let (caller, work) = with_caller(cancelled());
        let work = tokio::spawn(work);
        tokio::task::yield_now().await;
        assert!(!work.is_finished());
        drop(caller);
        work.await.unwrap();
    }
}
