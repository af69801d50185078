//! The context of an operator in a test.

use std::sync::Arc;

use clap::Parser as _;
use fake_cluster::{Cluster, Connection};
use wasmedge_operator::cli::{Cli, Command};
use wasmedge_operator::clock::Clock;
use wasmedge_operator::context::Context;
use wasmedge_operator::metrics::Metrics;

/// The namespace of the operator.
pub(crate) const NAMESPACE: &str = "wasmedge-system";

/// Returns the context of the operator `name`, with the installer `image` and the cluster's clock.
pub(crate) fn context(
    cluster: &Cluster,
    connection: &Connection,
    name: &str,
    image: &str,
) -> Context {
    let arguments = [
        "wasmedge-operator",
        "run",
        "--namespace",
        NAMESPACE,
        "--identity",
        name,
        "--installer-image",
        image,
    ];
    let cli = Cli::try_parse_from(arguments).expect("valid arguments");
    let Command::Run(settings) = cli.command else {
        panic!("another command than run")
    };
    let clock = cluster.clone();
    let context = Context::new(
        connection.client(),
        Arc::new(*settings),
        Arc::new(Metrics::new()),
    );
    context.with_clock(Clock::from_fn(move || clock.now()))
}
