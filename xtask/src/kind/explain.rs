//! Instructions for a cluster that stays.

use testbed::cluster::{Cluster, REGISTRY};
use testbed::progress;

/// Prints how to connect to a cluster, and how to remove it.
pub(super) fn explain(name: &str, cluster: &Cluster) {
    let option = if name == super::DEFAULT_NAME {
        String::new()
    } else {
        format!(" --name {name}")
    };
    progress::print_line(format_args!(
        "\nconnect:     eval \"$(cargo xtask kind env{option})\"      # or: export KUBECONFIG={}\n\
         push to it:  cargo xtask pack FILE --image -o {registry}/NAME:TAG --plain-http      # \
         pods pull {REGISTRY}/NAME:TAG\n\
         remove it:   cargo xtask kind down{option}",
        cluster.kubeconfig().display(),
        registry = cluster.registry(),
    ));
}
