//! `cargo xtask kind`: kind clusters that have the runtime on one worker.

use std::path::PathBuf;

use anyhow::Result;
use testbed::cluster::NodeImage;
use testbed::{host, progress};

mod up;
mod down;
mod status;

/// Kind clusters that have the runtime on one worker.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Brings up a cluster of three nodes, runs examples/hello on it, and leaves it running.
    Up(UpArgs),
    /// Removes a cluster and everything that it left on this machine.
    Down(Which),
    /// Shows a cluster's nodes and pods, and how to talk to it.
    Status(Which),
}

/// Which cluster.
#[derive(Debug, Clone, clap::Args)]
struct Which {
    /// The cluster's name; several may run side by side.
    #[arg(long, default_value = "wasmedge")]
    name: String,
}

#[derive(Debug, clap::Args)]
struct UpArgs {
    #[command(flatten)]
    which: Which,
    /// Uses kind's stock node image in your own Docker (needs Docker and the internet).
    #[arg(long, conflicts_with = "node_image")]
    stock: bool,
    /// Uses this node image in your own Docker.
    #[arg(long, value_name = "REF")]
    node_image: Option<String>,
}

impl UpArgs {
    fn image(&self) -> NodeImage {
        match &self.node_image {
            Some(name) => NodeImage::Named(name.clone()),
            None if self.stock => NodeImage::Stock,
            None => NodeImage::Own,
        }
    }
}

impl Which {
    /// What the cluster's run is called.
    fn run(&self) -> String {
        format!("kind-{}", self.name)
    }
}

pub(crate) fn run(args: Args) -> Result<()> {
    match args.action {
        Action::Up(args) => {
            host::require_root_and_kernel("kind up")?;
            up::run(&args)
        }
        Action::Down(which) => down::run(&which),
        Action::Status(which) => status::run(&which),
    }
}

/// Says how to talk to a cluster.
fn explain(cluster: &testbed::cluster::Cluster) {
    let kubectl: PathBuf = cluster.kubectl_program().to_owned();
    progress::say(format_args!(
        "\ntalk to it:  export KUBECONFIG={}\n             {} get pods -A",
        cluster.kubeconfig().display(),
        kubectl.display()
    ));
}
