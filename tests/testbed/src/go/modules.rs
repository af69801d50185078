//! The Go programs for tests, each from its upstream module.

use crate::go::{Cgo, Module, Program, Requirements};
use crate::versions::Cluster;

/// Returns containerd, its client and the shim for native containers.
pub fn containerd(version: &str) -> Module {
    let module = "github.com/containerd/containerd/v2";
    Module {
        name: "containerd",
        module,
        version: version.to_owned(),
        programs: programs(
            module,
            "/cmd/",
            &["containerd", "ctr", "containerd-shim-runc-v2"],
        ),
        stamps: vec![format!("{module}/version.Version={version}")],
        cgo: Cgo::Disabled,
        requirements: Requirements::AsWritten,
    }
}

/// Returns the daemon of a containerd of any major version, to check configurations with it.
pub fn containerd_daemon(version: &str) -> Module {
    let module = if version.starts_with("1.") {
        "github.com/containerd/containerd"
    } else {
        "github.com/containerd/containerd/v2"
    };
    Module {
        module,
        programs: programs(module, "/cmd/", &["containerd"]),
        stamps: vec![format!("{module}/version.Version={version}")],
        ..containerd(version)
    }
}

/// Returns the control plane, the node programs, and `kubectl`.
///
/// With cgo, as in upstream's releases of kubelet and kubectl: without it they resolve names by
/// Go's rules, not the node's.
pub fn kubernetes(versions: &Cluster) -> Module {
    let module = "k8s.io/kubernetes";
    let version = &versions.kubernetes;
    let minor = version.split('.').nth(1).unwrap_or_default();
    let stamp = |name: &str, value: &str| format!("k8s.io/component-base/version.{name}={value}");
    Module {
        name: "kubernetes",
        module,
        version: version.clone(),
        programs: programs(
            module,
            "/cmd/",
            &[
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kube-proxy",
                "kubelet",
                "kubeadm",
                "kubectl",
            ],
        ),
        stamps: vec![
            stamp("gitVersion", &format!("v{version}")),
            stamp("gitMajor", "1"),
            stamp("gitMinor", minor),
        ],
        cgo: Cgo::Enabled,
        requirements: Requirements::KubernetesStaging,
    }
}

/// Returns etcd, the control plane's store.
pub fn etcd(versions: &Cluster) -> Module {
    let module = "go.etcd.io/etcd/server/v3";
    single("etcd", module, &versions.etcd)
}

/// Returns CoreDNS, the cluster's DNS.
pub fn coredns(versions: &Cluster) -> Module {
    single("coredns", "github.com/coredns/coredns", &versions.coredns)
}

/// Returns kind.
pub fn kind(versions: &Cluster) -> Module {
    single("kind", "sigs.k8s.io/kind", &versions.kind)
}

/// Returns Helm.
pub fn helm(versions: &Cluster) -> Module {
    let module = "helm.sh/helm/v4";
    let version = &versions.helm;
    Module {
        programs: programs(module, "/cmd/", &["helm"]),
        stamps: vec![format!("{module}/internal/version.version=v{version}")],
        ..single("helm", module, version)
    }
}

fn single(name: &'static str, module: &'static str, version: &str) -> Module {
    Module {
        name,
        module,
        version: version.to_owned(),
        programs: vec![Program {
            package: module.to_owned(),
            file: name,
        }],
        stamps: Vec::new(),
        cgo: Cgo::Disabled,
        requirements: Requirements::AsWritten,
    }
}

fn programs(module: &str, folder: &str, files: &[&'static str]) -> Vec<Program> {
    files
        .iter()
        .map(|file| Program {
            package: format!("{module}{folder}{file}"),
            file,
        })
        .collect()
}
