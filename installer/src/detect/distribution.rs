//! Which distribution of Kubernetes a host is.

use std::collections::BTreeSet;

use installer_protocol::Distribution;

/// The unit of the other runtime that Kubernetes is run with.
pub(super) const OTHER_RUNTIME: &str = "crio.service";

/// What was seen of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// `ID` of its os-release; empty where there is none.
    pub os: String,
    /// Which of the units that may run a container runtime are active.
    pub active: BTreeSet<String>,
}

/// `ID` of an os-release.
pub(super) fn os_of(os_release: &str) -> String {
    let value = os_release
        .lines()
        .find_map(|line| line.trim().strip_prefix("ID="));
    value
        .unwrap_or_default()
        .trim_matches(['"', '\''])
        .to_owned()
}

/// Which distribution a host is, as far as can be seen.
///
/// A host may run Docker's containerd besides that of its Kubernetes, so a unit that is one
/// distribution's own counts before `containerd.service`, which is anybody's.
pub fn distribution(seen: &Seen) -> Option<Distribution> {
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
        distribution(&Seen {
            os: os.to_owned(),
            active: active.iter().map(|unit| (*unit).to_owned()).collect(),
        })
    }

    #[test]
    fn a_distributions_own_unit_counts_before_anybodys() {
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
    fn a_system_that_cannot_be_changed_is_known_by_its_name() {
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
    fn another_container_runtime_is_none_of_ours() {
        assert_eq!(
            seen("rhcos", &["crio.service"]),
            Some(Distribution::OtherRuntime)
        );
        assert_eq!(seen("debian", &[]), None);
    }

    #[test]
    fn an_os_release_says_its_id() {
        assert_eq!(
            os_of("NAME=\"x\"\nVERSION_ID=\"2\"\nID=\"amzn\"\nID_LIKE=fedora\n"),
            "amzn"
        );
        assert_eq!(os_of("NAME=x"), "");
    }
}
