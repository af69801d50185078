//! `run`: serves the admin port, waits for the lead, and runs the controller until it is told to
//! end.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::admin;
use crate::cli::Settings;
use crate::context::Context;
use crate::controller;
use crate::lease::{self, Seat};
use crate::metrics::Metrics;

/// Runs the operator until it gets SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot go on, above all because another replica leads now.
pub(super) async fn run(settings: Settings) -> Result<()> {
    let shutdown = shutdown()?;
    let client = super::client().await?;
    let settings = Arc::new(settings);
    let metrics = Arc::new(Metrics::new());
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("listen on {}", settings.listen))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), identity = settings.identity,
        listen = %settings.listen, "the operator begins");
    let served = admin::serve(listener, Arc::clone(&metrics));
    let work = work(Context::new(client, settings, metrics), shutdown);
    tokio::select! {
        ended = served => Err(ended.err().map_or_else(|| anyhow!("it ended"),
            Into::into)).context("serve the admin port"),
        worked = work => worked,
    }
}

/// Waits for the lead, where there is an election, and runs the controller until `shutdown` is
/// told.
///
/// # Errors
/// When another replica leads now, or the controller fails.
pub async fn work(context: Context, shutdown: watch::Receiver<()>) -> Result<()> {
    if !context.settings.leader_election {
        context.metrics.leads(true);
        return controller::run(context, told(shutdown)).await;
    }
    let seat = Seat {
        namespace: context.settings.namespace.clone(),
        identity: context.settings.identity.clone(),
        pace: lease::PACE,
    };
    let metrics = Arc::clone(&context.metrics);
    let mut leadership = tokio::select! {
        leadership = lease::lead(context.client.clone(), seat,
            || metrics.stands_by()) => leadership,
        () = told(shutdown.clone()) => return Ok(()),
    };
    metrics.leads(true);
    let outcome = tokio::select! {
        biased;
        () = leadership.lost() => None,
        outcome = controller::run(context, told(shutdown)) => Some(outcome),
    };
    metrics.leads(false);
    let Some(outcome) = outcome else {
        return Err(anyhow!(
            "this replica does not lead any more: it ends, so that nothing is done twice"
        ));
    };
    leadership.release().await;
    outcome
}

/// Is told when the process is to end.
fn shutdown() -> Result<watch::Receiver<()>> {
    let (sender, receiver) = watch::channel(());
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "the operator ends");
        sender.send_replace(());
    });
    Ok(receiver)
}

/// Waits until the process is to end.
async fn told(mut shutdown: watch::Receiver<()>) {
    // The sender is dropped only after it has told.
    let _told = shutdown.changed().await;
}
