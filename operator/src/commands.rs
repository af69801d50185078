//! The subcommands, one file each.

use anyhow::{Context as _, Result};
use kube::{Client, Config};

use crate::cli::{Command, Crds, Runtimes};

pub mod crds;
pub mod run;
pub mod runtimes;

/// Executes a subcommand.
///
/// # Errors
/// If it fails.
pub async fn execute(command: Command) -> Result<()> {
    match command {
        Command::Run(settings) => Box::pin(run::run(*settings)).await,
        Command::Crds(Crds::Apply) => crds::apply(client().await?).await,
        Command::Crds(Crds::Print) => crds::print(&mut std::io::stdout().lock()),
        Command::Runtimes(Runtimes::Remove(options)) => {
            runtimes::remove(client().await?, options.timeout).await
        }
    }
}

/// Creates a client of the cluster in which the process runs, or of the kubeconfig's.
async fn client() -> Result<Client> {
    // A build of the whole workspace links more than one implementation, and rustls does not choose
    // then. An error means that one is installed already: the same.
    let _chosen = rustls::crypto::ring::default_provider().install_default();
    let mut config = Config::infer()
        .await
        .context("find the cluster's configuration")?;
    // Callers retry with backoffs of their own. The client's retries could delay the renewal of the
    // Lease for minutes.
    config.default_retry = false;
    let cluster = config.cluster_url.to_string();
    Client::try_from(config).with_context(|| format!("create a client for {cluster}"))
}
