//! Whether containerd still waits for the answer to a request.
//!
//! A request that was begun is run to completion even if containerd gives it up: stopping half-way
//! would leak resources. What only waits, and has changed nothing yet, ends then.

use std::future;

use tokio::sync::watch;

tokio::task_local! {
    static CALLER: watch::Receiver<()>;
}

/// The caller's side of a request. Dropped when it waits no longer.
#[derive(Debug)]
pub struct Caller(#[expect(dead_code, reason = "its end is what is watched")] watch::Sender<()>);

/// A caller, and `work` done for it.
pub fn on_behalf<W: Future>(work: W) -> (Caller, impl Future<Output = W::Output>) {
    let (caller, waits) = watch::channel(());
    (Caller(caller), CALLER.scope(waits, work))
}

/// Waits until the caller of this task's request has given it up; for ever where there is none.
pub async fn given_up() {
    match CALLER.try_with(Clone::clone) {
        Ok(mut caller) => while caller.changed().await.is_ok() {},
        Err(_) => future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn request_is_given_up_when_its_caller_is_dropped() {
        let (caller, work) = on_behalf(given_up());
        let work = tokio::spawn(work);
        tokio::task::yield_now().await;
        assert!(!work.is_finished());
        drop(caller);
        work.await.unwrap();
    }
}
