//! `cargo xtask kind`: kind clusters, and the runtime on them as users install it: by Helm, from
//! this checkout's images.
//!
//! - [`create`]: a cluster, and a registry that has the images; no runtime yet.
//! - [`up`]: that and README.md's tour ([`testbed::tour`]), and the cluster stays;
//!   [`demo`](mod@demo): both, and nothing stays.
//! - [`env`](mod@env), [`status`], [`down`]: commands for a cluster that stays; [`explain`]: how to
//!   reach it.

use anyhow::Result;
use testbed::cache::Cache;
use testbed::cluster::{Cluster, NodeImage};
use testbed::requirements;
use testbed::teardown::Run;

mod create;
mod explain;
mod up;
mod demo;
mod env;
mod down;
mod status;

pub(crate) use demo::run as demo;

/// The default name of a cluster.
const DEFAULT_NAME: &str = "wasmedge";

/// Kind clusters, and the runtime on them as users install it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Creates a cluster of three nodes, installs the operator, runs examples/hello, and leaves all
    /// of it running.
    Up(UpArgs),
    /// Creates a cluster of three nodes with a registry that has this checkout's images, and no
    /// runtime yet.
    Create(UpArgs),
    /// Prints what a shell needs to talk to a cluster: eval "$(cargo xtask kind env)"
    Env(Which),
    /// Removes a cluster and everything that it left on this machine.
    Down(Which),
    /// Shows a cluster's nodes and pods, and how to talk to it.
    Status(Which),
}

#[derive(Debug, Clone, clap::Args)]
struct Which {
    /// The cluster's name; several may run side by side.
    #[arg(long, default_value = DEFAULT_NAME, value_parser = cluster_name)]
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
    /// Returns the name of the cluster's run.
    fn run(&self) -> String {
        format!("kind-{}", self.name)
    }
}

/// Checks a name that can begin the names of nodes, and that stays unique with a number behind it.
fn cluster_name(text: &str) -> Result<String, String> {
    let fits = text.len() <= 40 && text.starts_with(|c: char| c.is_ascii_lowercase());
    let plain = text
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    let numbered = text
        .rsplit_once('-')
        .is_some_and(|(_, end)| end.chars().all(|c| c.is_ascii_digit()));
    if fits && plain && !numbered {
        return Ok(text.to_owned());
    }
    Err(
        "a name is up to 40 lower-case letters, digits and dashes, begins with a letter and does \
         not end with a dash and a number"
            .to_owned(),
    )
}

pub(crate) fn run(args: Args) -> Result<()> {
    match args.action {
        Action::Up(args) => {
            requirements::require_root_and_kernel("kind up")?;
            up::run(&args)
        }
        Action::Create(args) => {
            requirements::require_root_and_kernel("kind create")?;
            create::run(&args)
        }
        Action::Env(which) => env::run(&which),
        Action::Down(which) => down::run(&which),
        Action::Status(which) => status::run(&which),
    }
}

/// Runs `work` with a cluster that is up; returns `None` if there is none.
fn with_cluster<T>(
    which: &Which,
    work: impl FnOnce(&Cache, &Cluster) -> Result<T>,
) -> Result<Option<T>> {
    let cache = Cache::open()?;
    if let Some(run) = Run::kept(&which.run())? {
        // An error must not remove the cluster.
        let done =
            Cluster::kept(&cache, &run, &which.name).and_then(|cluster| work(&cache, &cluster));
        run.keep()?;
        return done.map(Some);
    }
    Cluster::in_users_docker(&cache, &which.name)?
        .map(|cluster| work(&cache, &cluster))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::cluster_name;

    #[test]
    fn cluster_name_fits_into_node_names_and_stays_unique() {
        for good in ["wasmedge", "a", "team-b2"] {
            assert_eq!(cluster_name(good).as_deref(), Ok(good));
        }
        for bad in ["", "Team", "2b", "a_b", "team-2", "team-", &"a".repeat(41)] {
            assert!(cluster_name(bad).is_err(), "{bad}");
        }
    }
}
