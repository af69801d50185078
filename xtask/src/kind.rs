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
    #[arg(long, default_value = "wasmedge", value_parser = cluster_name)]
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

/// A name that can begin the names of nodes, and that no number behind it makes another cluster's.
fn cluster_name(text: &str) -> Result<String, String> {
    let fits = text.len() <= 40 && text.starts_with(|c: char| c.is_ascii_lowercase());
    let plain = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    let numbered = text.rsplit_once('-').is_some_and(|(_, end)| end.chars().all(|c| c.is_ascii_digit()));
    if fits && plain && !numbered {
        return Ok(text.to_owned());
    }
    Err("a name is up to 40 lower-case letters, digits and dashes, begins with a letter and does not end with a dash and a number"
        .to_owned())
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

#[cfg(test)]
mod tests {
    use super::cluster_name;

    #[test]
    fn a_name_must_fit_into_names_of_nodes_and_stay_its_own() {
        for good in ["wasmedge", "a", "team-b2"] {
            assert_eq!(cluster_name(good).as_deref(), Ok(good));
        }
        for bad in ["", "Team", "2b", "a_b", "team-2", "team-", &"a".repeat(41)] {
            assert!(cluster_name(bad).is_err(), "{bad}");
        }
    }
}
