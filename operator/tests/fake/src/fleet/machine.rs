//! A node as it really is, whatever its object says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use installer_protocol::report::Installed;
use serde_json::{Map, Value, json};

use super::script::{Pace, Script};

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// containerd's version.
    pub containerd: String,
    /// Which handlers containerd serves, and the runtime that each leads to.
    pub handlers: BTreeMap<String, String>,
    /// What is installed, by the names of `WasmRuntime`s.
    pub installed: BTreeMap<String, Installed>,
    /// What it has not come back from yet, by the names of `WasmRuntime`s: a handler that is not
    /// told, a node not Ready.
    pub settling: BTreeMap<String, usize>,
    /// Handlers that somebody took away behind the operator's back, which it cannot know at once.
    pub sabotaged: BTreeSet<String>,
    /// Whether it was ever touched for a runtime, and not cleaned of it.
    pub touched: BTreeMap<String, Touch>,
    /// What its next installers do; [`Script::Works`] when none is left.
    pub scripts: VecDeque<Script>,
    /// How fast things go.
    pub pace: Pace,
    /// The Job whose installer is at work.
    pub installer: Option<String>,
    /// Installers that began to work.
    pub runs: usize,
    /// Whether its kubelet says that it can run pods.
    pub is_ready: bool,
    /// Whether it answers at all.
    pub is_dead: bool,
    /// Whether it was removed.
    pub is_gone: bool,
}

/// What an installer left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// It may have been killed in the middle of something.
    Begun,
    /// It is as it should be.
    Done,
}

/// A node that is about to join.
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
    /// The handlers as the kubelet tells them; none where containerd is too old to tell.
    pub(super) fn listed(&self) -> Option<Vec<String>> {
        let old = self.containerd.starts_with("1.");
        (!old).then(|| {
            [String::new(), "runc".to_owned()]
                .into_iter()
                .chain(self.handlers.keys().cloned())
                .collect()
        })
    }

    /// It has something to come back from.
    pub(super) fn unsettle(&mut self, runtime: &str) {
        *self.settling.entry(runtime.to_owned()).or_default() += 1;
    }

    /// It has come back from that.
    pub(super) fn settle(&mut self, runtime: &str) {
        if let Some(count) = self.settling.get_mut(runtime) {
            *count = count.saturating_sub(1);
        }
        self.settling.retain(|_, count| *count > 0);
    }

    /// Whether pods of a runtime would run here now.
    pub fn works(&self, runtime: &str) -> bool {
        self.installed.contains_key(runtime)
            && self.handlers.values().any(|leads_to| leads_to == runtime)
    }
}

impl Joining {
    /// A Linux node with containerd 2.1.4.
    pub fn new(name: &str) -> Self {
        let machine = Machine {
            containerd: "2.1.4".to_owned(),
            handlers: BTreeMap::new(),
            installed: BTreeMap::new(),
            settling: BTreeMap::new(),
            sabotaged: BTreeSet::new(),
            touched: BTreeMap::new(),
            scripts: VecDeque::new(),
            pace: Pace::default(),
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

    /// With a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.into());
        self
    }

    /// With a taint that keeps pods away.
    #[must_use]
    pub fn taint(mut self, key: &str) -> Self {
        self.taints
            .push(json!({ "key": key, "effect": "NoSchedule" }));
        self
    }

    /// With another containerd.
    #[must_use]
    pub fn containerd(mut self, version: &str) -> Self {
        version.clone_into(&mut self.machine.containerd);
        self
    }

    /// Of another architecture.
    #[must_use]
    pub fn arch(mut self, arch: &str) -> Self {
        arch.clone_into(&mut self.arch);
        self.labels
            .insert("kubernetes.io/arch".to_owned(), arch.into());
        self
    }

    /// With another kubelet.
    #[must_use]
    pub fn kubelet(mut self, version: &str) -> Self {
        version.clone_into(&mut self.kubelet);
        self
    }

    /// Whose installers do this, one after the other.
    #[must_use]
    pub fn script(mut self, scripts: impl IntoIterator<Item = Script>) -> Self {
        self.machine.scripts = scripts.into_iter().collect();
        self
    }

    /// As fast as this.
    #[must_use]
    pub fn pace(mut self, pace: Pace) -> Self {
        self.machine.pace = pace;
        self
    }

    /// Whose object lists so many images, as nodes do that have been in use for a while.
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
