//! The Kubernetes distribution of a node.

use std::collections::BTreeSet;

use installer_protocol::Distribution;

/// The unit of CRI-O, the other container runtime of Kubernetes.
pub(super) const OTHER_RUNTIME: &str = "crio.service";

/// The properties of a node by which its distribution is detected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DistributionHints {
    /// `ID` of its os-release; empty if there is none.
    pub os: String,
    /// The active units among those that may run a container runtime.
    pub active: BTreeSet<String>,
}

/// Returns `ID` of an os-release.
pub(super) fn os_of(os_release: &str) -> String {
    let value = os_release
        .lines()
        .find_map(|line| line.trim().strip_prefix("ID="));
    value
        .unwrap_or_default()
        .trim_matches(['"', '\''])
        .to_owned()
}

/// Detects the distribution; none if nothing known runs there.
///
/// A node may run Docker's containerd beside that of its distribution, so a unit that belongs to
/// one distribution has precedence over `containerd.service`.
pub fn distribution(seen: &DistributionHints) -> Option<Distribution> {
    const OWN: [Distribution; 4] = [
        Distribution::Rke2,
        Distribution::K3s,
        Distribution::K0s,
        Distribution::MicroK8s,
    ];
    match seen.os.as_str() {
        "talos" => return Some(Distribution::Talos),
        "bottlerocket" => return Some(Distribution::Bottlerocket),
        "cos" => return Some(Distribution::ContainerOptimized),
        _ => {}
    }
    let runs = |distribution: Distribution| {
        distribution
            .layout()
            .units
            .iter()
            .any(|unit| seen.active.contains(unit))
    };
    let own = OWN.into_iter().find(|distribution| runs(*distribution));
    own.or_else(|| {
        if seen.active.contains(OTHER_RUNTIME) {
            Some(Distribution::OtherRuntime)
        } else {
            runs(Distribution::Systemd).then_some(Distribution::Systemd)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(os: &str, active: &[&str]) -> Option<Distribution> {
        distribution(&DistributionHints {
            os: os.to_owned(),
            active: active.iter().map(|unit| (*unit).to_owned()).collect(),
        })
    }

    #[test]
    fn unit_of_a_distribution_has_precedence_over_containerd_service() {
        assert_eq!(
            seen("ubuntu", &["containerd.service"]),
            Some(Distribution::Systemd)
        );
        assert_eq!(
            seen("ubuntu", &["containerd.service", "k3s-agent.service"]),
            Some(Distribution::K3s)
        );
        assert_eq!(
            seen("sles", &["rke2-server.service"]),
            Some(Distribution::Rke2)
        );
        assert_eq!(
            seen("debian", &["k0sworker.service"]),
            Some(Distribution::K0s)
        );
        assert_eq!(
            seen("ubuntu", &["snap.microk8s.daemon-containerd.service"]),
            Some(Distribution::MicroK8s)
        );
    }

    #[test]
    fn immutable_system_is_detected_by_its_os_release() {
        assert_eq!(seen("talos", &[]), Some(Distribution::Talos));
        assert_eq!(
            seen("bottlerocket", &["containerd.service"]),
            Some(Distribution::Bottlerocket)
        );
        assert_eq!(
            seen("cos", &["containerd.service"]),
            Some(Distribution::ContainerOptimized)
        );
    }

    #[test]
    fn node_of_another_container_runtime_is_detected() {
        assert_eq!(
            seen("rhcos", &["crio.service"]),
            Some(Distribution::OtherRuntime)
        );
        assert_eq!(seen("debian", &[]), None);
    }

    #[test]
    fn os_release_has_an_id() {
        assert_eq!(
            os_of("NAME=\"x\"\nVERSION_ID=\"2\"\nID=\"amzn\"\nID_LIKE=fedora\n"),
            "amzn"
        );
        assert_eq!(os_of("NAME=x"), "");
    }
}
