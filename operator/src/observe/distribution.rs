//! The distribution of a node, from the facts that its kubelet reports. The installer checks it on
//! the node and refuses if it is wrong.

use installer_protocol::Distribution;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;

/// Returns the detected distribution of `node`.
pub fn of_node(node: &Node) -> Distribution {
    let info = node
        .status
        .as_ref()
        .and_then(|status| status.node_info.clone());
    let text = |field: Option<String>| field.unwrap_or_default();
    let runtime = text(
        info.as_ref()
            .map(|info| info.container_runtime_version.clone()),
    );
    let kubelet = text(info.as_ref().map(|info| info.kubelet_version.clone()));
    let system = text(info.as_ref().map(|info| info.os_image.clone()));
    if !runtime.starts_with("containerd://") {
        return Distribution::OtherRuntime;
    }
    let by_system = [
        ("Talos", Distribution::Talos),
        ("Bottlerocket", Distribution::Bottlerocket),
        ("Container-Optimized OS", Distribution::ContainerOptimized),
    ];
    if let Some((_, distribution)) = by_system.iter().find(|(name, _)| system.contains(name)) {
        return *distribution;
    }
    let by_kubelet = [
        ("+k3s", Distribution::K3s),
        ("+rke2", Distribution::Rke2),
        ("+k0s", Distribution::K0s),
    ];
    if let Some((_, distribution)) = by_kubelet.iter().find(|(mark, _)| kubelet.contains(mark)) {
        return *distribution;
    }
    if node.labels().contains_key("microk8s.io/cluster") {
        Distribution::MicroK8s
    } else {
        Distribution::Systemd
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn node_status_shows_its_distribution() {
        let containerd = "containerd://2.1.4";
        let plain = json!({});
        let microk8s = json!({ "microk8s.io/cluster": "true" });
        for (runtime, kubelet, system, labels, expected) in [
            (
                containerd,
                "v1.37.2",
                "Debian GNU/Linux 12 (bookworm)",
                &plain,
                Distribution::Systemd,
            ),
            (
                containerd,
                "v1.33.1-eks-5fd9a0d",
                "Amazon Linux 2023.8",
                &plain,
                Distribution::Systemd,
            ),
            (
                containerd,
                "v1.34.1-gke.100",
                "Ubuntu 24.04.2 LTS",
                &plain,
                Distribution::Systemd,
            ),
            (
                containerd,
                "v1.34.1-gke.100",
                "Container-Optimized OS from Google",
                &plain,
                Distribution::ContainerOptimized,
            ),
            (
                "containerd://2.2.2-bd1.34",
                "v1.34.1+k3s1",
                "Ubuntu 24.04.2 LTS",
                &plain,
                Distribution::K3s,
            ),
            (
                containerd,
                "v1.34.1+rke2r1",
                "SUSE Linux Enterprise 15",
                &plain,
                Distribution::Rke2,
            ),
            (
                containerd,
                "v1.36.0+k0s.0",
                "Debian GNU/Linux 12 (bookworm)",
                &plain,
                Distribution::K0s,
            ),
            (
                containerd,
                "v1.34.1",
                "Ubuntu 24.04.2 LTS",
                &microk8s,
                Distribution::MicroK8s,
            ),
            (
                containerd,
                "v1.34.1",
                "Talos (v1.11.0)",
                &plain,
                Distribution::Talos,
            ),
            (
                containerd,
                "v1.34.1-eks-5fd9a0d",
                "Bottlerocket OS 1.40.0",
                &plain,
                Distribution::Bottlerocket,
            ),
            (
                "cri-o://1.34.0",
                "v1.34.1",
                "Red Hat Enterprise Linux CoreOS",
                &plain,
                Distribution::OtherRuntime,
            ),
        ] {
            let node = json!({ "metadata": { "name": "n", "labels": labels },
                "status": { "nodeInfo": {
                "architecture": "amd64", "bootID": "b", "containerRuntimeVersion": runtime,
                "kernelVersion": "6", "kubeProxyVersion": "",
                "kubeletVersion": kubelet, "machineID": "m", "operatingSystem": "linux",
                "osImage": system, "systemUUID": "s" } } });
            assert_eq!(
                of_node(&serde_json::from_value(node).unwrap()),
                expected,
                "{kubelet} {system}"
            );
        }
    }
}
