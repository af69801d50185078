//! What the command line can do, one file each.

use anyhow::{Context as _, Result};
use kube::{Client, Config};

use crate::cli::{Command, Crds, Runtimes};

pub mod crds;
pub mod run;
pub mod runtimes;

/// Does what the command line says.
///
/// # Errors
/// When it could not be done.
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

/// A client of the cluster that the process runs in, or of that which the kubeconfig names.
async fn client() -> Result<Client> {
    // Where the whole workspace is built at once, more than one implementation is linked, and
    // rustls would not choose. Who chose before us has chosen the same.
    let _chosen = rustls::crypto::ring::default_provider().install_default();
    let mut config = Config::infer()
        .await
        .context("find out which cluster to talk to")?;
    // A call that was refused is repeated by whoever made it, after as long as makes sense there.
    // The client's own retries would hold a Lease's renewal for minutes.
    config.default_retry = false;
    let cluster = config.cluster_url.to_string();
    Client::try_from(config).with_context(|| format!("make a client for {cluster}"))
}
