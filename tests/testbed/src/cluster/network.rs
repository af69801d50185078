//! The pod network of a cluster without a network plugin of its own: a bridge on each node, and
//! routes between nodes.

use anyhow::{Context as _, Result};

use super::Cluster;

const CONFLIST: &str = include_str!("../../node-image/bridge.conflist");
const POD_NETWORK: &str = "@POD_NETWORK@";

/// The addresses of a node.
struct Place {
    node: String,
    /// The node's own address.
    address: String,
    /// The network of its pods' addresses.
    pods: String,
}

/// Configures on every node a bridge for its pods and routes to the other nodes' pods.
pub(super) fn connect(cluster: &Cluster) -> Result<()> {
    let places = places(cluster)?;
    for place in &places {
        let conflist = CONFLIST.replace(POD_NETWORK, &place.pods);
        cluster.engine.write_in_node(
            &place.node,
            "/etc/cni/net.d/10-bridge.conflist",
            &conflist,
        )?;
        let routes: Vec<String> = places
            .iter()
            .filter(|other| other.node != place.node)
            .map(|other| format!("ip route replace {} via {}", other.pods, other.address))
            .collect();
        cluster
            .engine
            .in_node(&place.node, &["sh", "-c", &routes.join(" && ")])
            .done()?;
    }
    Ok(())
}

fn places(cluster: &Cluster) -> Result<Vec<Place>> {
    let format = "jsonpath={range .items[*]}{.metadata.name} \
                  {.status.addresses[?(@.type==\"InternalIP\")].address} \
                  {.spec.podCIDR}{\"\\n\"}{end}";
    let table = cluster
        .kubectl()
        .args(["get", "nodes", "-o", format])
        .text()?;
    table
        .lines()
        .map(|line| {
            place(line).with_context(|| format!("a node without address or pod network: {line}"))
        })
        .collect()
}

fn place(line: &str) -> Option<Place> {
    let mut words = line.split_whitespace().map(str::to_owned);
    Some(Place {
        node: words.next()?,
        address: words.next()?,
        pods: words.next()?,
    })
}

/// Restricts the cluster's DNS to the cluster: there is no upstream server, and CoreDNS would query
/// itself, detect the loop and exit.
pub(super) fn seal_dns(cluster: &Cluster) -> Result<()> {
    let dns = || cluster.kubectl().args(["--namespace", "kube-system"]);
    let settings = dns()
        .args([
            "get",
            "configmap",
            "coredns",
            "-o",
            "jsonpath={.data.Corefile}",
        ])
        .text()?;
    let patch = serde_json::json!({ "data": { "Corefile": sealed(&settings) } });
    dns()
        .args([
            "patch",
            "configmap",
            "coredns",
            "--type=merge",
            "--patch",
            &patch.to_string(),
        ])
        .done()?;
    // Pods that have not started yet use the new settings; running ones would reload only after a
    // while.
    dns()
        .args([
            "delete",
            "pods",
            "--selector=k8s-app=kube-dns",
            "--wait=false",
        ])
        .done()
}

/// Returns the settings without the plugins `forward` and `loop`.
fn sealed(settings: &str) -> String {
    let mut kept = String::new();
    let mut in_forward = false;
    for line in settings.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        in_forward |= first == "forward";
        if !in_forward && first != "loop" {
            kept.push_str(line);
            kept.push('\n');
        }
        // A forward without a block ends on its own line.
        in_forward &= !(first == "}" || (first == "forward" && !line.trim_end().ends_with('{')));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_dns_settings_lack_only_forward_and_loop() {
        let settings = ".:53 \
                        {\n    errors\n    \
                        forward . /etc/resolv.conf {\n       max_concurrent 1000\n    }\n    \
                        cache 30\n    loop\n    reload\n}\n";
        assert_eq!(
            sealed(settings),
            ".:53 {\n    errors\n    cache 30\n    reload\n}\n"
        );
        assert_eq!(
            sealed(".:53 {\n    forward . 1.1.1.1\n    cache\n}\n"),
            ".:53 {\n    cache\n}\n"
        );
    }

    #[test]
    fn node_without_a_pod_network_is_detected() {
        assert!(place("worker 172.18.0.2 10.244.1.0/24").is_some());
        assert!(place("worker 172.18.0.2").is_none());
    }
}
