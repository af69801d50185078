//! `run`: serves the admin port, waits until it leads, and runs the controller until it gets
//! SIGTERM or SIGINT.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::admin;
use crate::cli::Settings;
use crate::context::Context;
use crate::controller;
use crate::lease::{self, Election};
use crate::metrics::Metrics;

/// Runs the operator until it gets SIGTERM or SIGINT.
///
/// # Errors
/// If it cannot continue, mostly because another replica leads now.
pub(super) async fn run(settings: Settings) -> Result<()> {
    let shutdown = shutdown()?;
    let client = super::client().await?;
    let settings = Arc::new(settings);
    let metrics = Arc::new(Metrics::new());
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("listen on {}", settings.listen))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), identity = settings.identity,
        listen = %settings.listen, "the operator starts");
    let served = admin::serve(listener, Arc::clone(&metrics));
    let work = work(Context::new(client, settings, metrics), shutdown);
    tokio::select! {
        ended = served => Err(ended.err().map_or_else(|| anyhow!("the listener was closed"),
            Into::into)).context("serve the admin port"),
        worked = work => worked,
    }
}

/// Waits until this replica leads, if there is leader election, and runs the controller until
/// `shutdown` changes.
///
/// # Errors
/// If another replica leads now, or the controller fails.
pub async fn work(context: Context, shutdown: watch::Receiver<()>) -> Result<()> {
    if !context.settings.leader_election {
        context.metrics.set_leader(true);
        return controller::run(context, stopped(shutdown)).await;
    }
    let election = Election {
        namespace: context.settings.namespace.clone(),
        identity: context.settings.identity.clone(),
        timings: lease::TIMINGS,
    };
    let metrics = Arc::clone(&context.metrics);
    let mut leadership = tokio::select! {
        leadership = lease::lead(context.client.clone(), election,
            || metrics.set_standby()) => leadership,
        () = stopped(shutdown.clone()) => return Ok(()),
    };
    metrics.set_leader(true);
    let outcome = tokio::select! {
        biased;
        () = leadership.lost() => None,
        outcome = controller::run(context, stopped(shutdown)) => Some(outcome),
    };
    metrics.set_leader(false);
    let Some(outcome) = outcome else {
        return Err(anyhow!(
            "lost the leadership: this replica exits, so that two do not act at once"
        ));
    };
    leadership.release().await;
    outcome
}

/// Returns a channel that changes when the process gets SIGTERM or SIGINT.
fn shutdown() -> Result<watch::Receiver<()>> {
    let (sender, receiver) = watch::channel(());
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "the operator stops");
        sender.send_replace(());
    });
    Ok(receiver)
}

/// Waits until the process has to stop.
async fn stopped(mut shutdown: watch::Receiver<()>) {
    // The sender is dropped only after a change.
    let _changed = shutdown.changed().await;
}
