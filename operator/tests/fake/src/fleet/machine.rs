//! The real state of a node, independent of its object.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use installer_protocol::report::Installed;
use serde_json::{Map, Value, json};

use super::script::{Delays, Script};

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// containerd's version.
    pub containerd: String,
    /// The handlers that containerd serves, and the runtime of each.
    pub handlers: BTreeMap<String, String>,
    /// The installed runtimes, by the names of `WasmRuntime`s.
    pub installed: BTreeMap<String, Installed>,
    /// The `WasmRuntime`s after whose change the node has not settled: the handler is not listed,
    /// or the node is not Ready.
    pub settling: BTreeMap<String, usize>,
    /// Handlers that were removed without the operator's knowledge.
    pub sabotaged: BTreeSet<String>,
    /// Whether it was changed for a runtime and is not clean.
    pub touched: BTreeMap<String, Touch>,
    /// The scripts of its next installers; [`Script::Works`] if there is none.
    pub scripts: VecDeque<Script>,
    /// The delays.
    pub delays: Delays,
    /// The Job of the running installer.
    pub installer: Option<String>,
    /// The number of installers that ran.
    pub runs: usize,
    /// Whether its kubelet reports Ready.
    pub is_ready: bool,
    /// Whether it responds.
    pub is_dead: bool,
    /// Whether it was removed.
    pub is_gone: bool,
}

/// The state that an installer left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// It may have been killed during its work.
    Begun,
    /// It completed.
    Done,
}

/// A node that joins.
#[derive(Debug, Clone)]
pub struct Joining {
    pub(super) name: String,
    pub(super) machine: Machine,
    labels: Map<String, Value>,
    taints: Vec<Value>,
    images: usize,
    kubelet: String,
    arch: String,
}

impl Machine {
    /// Returns the handlers that the kubelet lists; none if containerd is too old.
    pub(super) fn listed(&self) -> Option<Vec<String>> {
        let old = self.containerd.starts_with("1.");
        (!old).then(|| {
            [String::new(), "runc".to_owned()]
                .into_iter()
                .chain(self.handlers.keys().cloned())
                .collect()
        })
    }

    /// Marks that a change of the runtime has not settled.
    pub(super) fn unsettle(&mut self, runtime: &str) {
        *self.settling.entry(runtime.to_owned()).or_default() += 1;
    }

    /// Marks that it has settled.
    pub(super) fn settle(&mut self, runtime: &str) {
        if let Some(count) = self.settling.get_mut(runtime) {
            *count = count.saturating_sub(1);
        }
        self.settling.retain(|_, count| *count > 0);
    }

    /// Whether pods of a runtime run here now.
    pub fn works(&self, runtime: &str) -> bool {
        self.installed.contains_key(runtime)
            && self.handlers.values().any(|leads_to| leads_to == runtime)
    }
}

impl Joining {
    /// Creates a Linux node with containerd 2.1.4.
    pub fn new(name: &str) -> Self {
        let machine = Machine {
            containerd: "2.1.4".to_owned(),
            handlers: BTreeMap::new(),
            installed: BTreeMap::new(),
            settling: BTreeMap::new(),
            sabotaged: BTreeSet::new(),
            touched: BTreeMap::new(),
            scripts: VecDeque::new(),
            delays: Delays::default(),
            installer: None,
            runs: 0,
            is_ready: true,
            is_dead: false,
            is_gone: false,
        };
        let mut labels = Map::new();
        for (label, value) in [
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", "amd64"),
        ] {
            labels.insert(label.to_owned(), value.into());
        }
        // A node's name may be longer than a label's value.
        labels.insert(
            "kubernetes.io/hostname".to_owned(),
            name.get(..63)
                .unwrap_or(name)
                .trim_end_matches(['-', '.'])
                .into(),
        );
        let (kubelet, arch) = ("v1.34.2".to_owned(), "amd64".to_owned());
        Self {
            name: name.to_owned(),
            machine,
            labels,
            taints: Vec::new(),
            images: 0,
            kubelet,
            arch,
        }
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a NoSchedule taint.
    #[must_use]
    pub fn taint(mut self, key: &str) -> Self {
        self.taints
            .push(json!({ "key": key, "effect": "NoSchedule" }));
        self
    }

    /// Sets the version of containerd.
    #[must_use]
    pub fn containerd(mut self, version: &str) -> Self {
        version.clone_into(&mut self.machine.containerd);
        self
    }

    /// Sets the architecture.
    #[must_use]
    pub fn arch(mut self, arch: &str) -> Self {
        arch.clone_into(&mut self.arch);
        self.labels
            .insert("kubernetes.io/arch".to_owned(), arch.into());
        self
    }

    /// Sets the version of the kubelet.
    #[must_use]
    pub fn kubelet(mut self, version: &str) -> Self {
        version.clone_into(&mut self.kubelet);
        self
    }

    /// Sets the scripts of its installers, in their order.
    #[must_use]
    pub fn script(mut self, scripts: impl IntoIterator<Item = Script>) -> Self {
        self.machine.scripts = scripts.into_iter().collect();
        self
    }

    /// Sets the delays.
    #[must_use]
    pub fn delays(mut self, delays: Delays) -> Self {
        self.machine.delays = delays;
        self
    }

    /// Sets the number of images in its object, like that of a used node.
    #[must_use]
    pub fn images(mut self, count: usize) -> Self {
        self.images = count;
        self
    }

    pub(super) fn object(&self, boot: &str) -> Value {
        let image = |n: usize| {
            let digest = format!("registry.example.org/some/team/image-{n}@sha256:{n:064}");
            json!({ "names": [digest,
                format!("registry.example.org/some/team/image-{n}:v1.{n}.0")],
                    "sizeBytes": 10_000_000 + n })
        };
        let mut node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": self.name, "labels": self.labels,
            "annotations": { "volumes.kubernetes.io/controller-managed-attach-detach": "true" } },
            "spec": { "podCIDR": "10.244.0.0/24" },
            "status": {
                "capacity": { "cpu": "8", "memory": "32Gi", "pods": "110" },
                "conditions": [
                    { "type": "MemoryPressure", "status": "False",
                    "reason": "KubeletHasSufficientMemory",
                    "message": "kubelet has sufficient memory available" },
                    { "type": "DiskPressure", "status": "False",
                    "reason": "KubeletHasNoDiskPressure",
                    "message": "kubelet has no disk pressure" },
                    { "type": "Ready", "status": "True", "reason": "KubeletReady",
                    "message": "kubelet is posting ready status" },
                ],
                "images": (0..self.images).map(image).collect::<Vec<_>>(),
                "nodeInfo": {
                    "architecture": self.arch, "bootID": boot,
                    "containerRuntimeVersion": format!("containerd://{}", self.machine.containerd),
                    "kernelVersion": "6.12.0", "kubeProxyVersion": self.kubelet,
                    "kubeletVersion": self.kubelet, "machineID": "m",
                    "operatingSystem": "linux", "osImage": "Debian GNU/Linux 13 (trixie)",
                    "systemUUID": "s",
                },
            },
        });
        if !self.taints.is_empty() {
            node["spec"]["taints"] = self.taints.clone().into();
        }
        super::object::set_handlers(&mut node, self.machine.listed().as_deref());
        node
    }
}
