//! The target of a rollout: the part of the spec that requires a change of nodes, and its digest.

use std::collections::BTreeMap;

use installer_protocol::layout::Support;
use installer_protocol::{Artifact, Reason, Request, Verb};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt as _;
use kube::core::{Selector, SelectorExt as _};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::observed::{InstallerFacts, NodeFacts, Observed};
use crate::crd::{Arch, ConfigMode, ContainerdSpec, Platform, WasmRuntimeSpec};
use crate::names;

/// The state to which a rollout brings its nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Digest of the target. Nodes with this digest are up to date.
    pub hash: String,
    runtime: String,
    spec: WasmRuntimeSpec,
    installer: InstallerFacts,
}

/// Why a node cannot have the runtime, known without running an installer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// The reason, in CamelCase.
    pub reason: Reason,
    /// The message for users.
    pub message: String,
}

impl Target {
    pub(super) fn of(observed: &Observed) -> Self {
        let spec = observed.runtime.spec.clone();
        // Only what requires a change of nodes: a new image does where it holds the runtime.
        // Tolerations, overhead, budget and selector do not.
        let image = spec
            .artifact
            .platforms
            .is_empty()
            .then_some(&observed.installer.image);
        let ContainerdSpec {
            mode,
            systemd_cgroup,
            sandboxer: _,
            paths,
        } = &spec.containerd;
        let containerd = json!({ "mode": mode, "systemdCgroup": systemd_cgroup, "paths": paths });
        let mut facts = vec![
            json!(spec.runtime_class.handler),
            json!(spec.artifact),
            containerd,
            json!(image),
        ];
        // Default settings are left out: a new version of the operator with more settings must not
        // change the digest, and with it nodes.
        let settings = spec.settings();
        facts.extend((!settings.is_default()).then(|| json!(settings)));
        let facts = json!(facts);
        Self {
            hash: digest(&facts.to_string(), 16),
            runtime: observed.runtime.name_any(),
            spec,
            installer: observed.installer.clone(),
        }
    }

    /// The handler's name.
    pub fn handler(&self) -> &str {
        &self.spec.runtime_class.handler
    }

    /// Returns the request that installs the target on `node`.
    ///
    /// # Errors
    /// When the node cannot have the runtime.
    pub fn install(&self, node: &NodeFacts) -> Result<Request, Unfit> {
        support(node, self.spec.containerd.mode)?;
        self.runs_installers(node)?;
        Ok(self.request(Verb::Install, self.artifact(node)?, node))
    }

    /// Returns the request that removes the runtime from `node`.
    pub fn uninstall(&self, node: &NodeFacts) -> Request {
        self.request(Verb::Uninstall, None, node)
    }

    fn request(&self, verb: Verb, artifact: Option<Artifact>, node: &NodeFacts) -> Request {
        Request {
            verb,
            runtime: self.runtime.clone(),
            handler: self.handler().to_owned(),
            distribution: node.distribution,
            artifact,
            mode: self.spec.containerd.mode,
            cgroup_driver: self.spec.containerd.systemd_cgroup.into(),
            settings: self.spec.settings(),
            paths: (&self.spec.containerd.paths).into(),
            image: self.installer.image.clone(),
        }
    }

    /// Returns the digest of the template of a Job with this request.
    pub fn template(&self, request: &Request) -> String {
        template(&self.installer.digest, request)
    }

    /// Checks that the installer's image is for the node's architecture: wherever the runtime comes
    /// from, an installer verifies it.
    fn runs_installers(&self, node: &NodeFacts) -> Result<(), Unfit> {
        let known = &self.installer.architectures;
        if node.arch.is_some_and(|arch| known.contains(&arch)) {
            return Ok(());
        }
        let name = |arch: &Arch| arch.as_str();
        let (known, arch) = (
            known.iter().map(name).collect::<Vec<_>>().join(" and "),
            node.arch.as_ref().map_or("another one", name),
        );
        let message = format!(
            "the installer's image is for {known}, the node's architecture is {arch}: leave such \
             nodes out with nodeSelector, or bring an image for it and \
             name it in the chart's installer.architectures"
        );
        Err(Unfit {
            reason: Reason::Unsupported,
            message,
        })
    }

    fn artifact(&self, node: &NodeFacts) -> Result<Option<Artifact>, Unfit> {
        let platforms = &self.spec.artifact.platforms;
        if self.spec.containerd.mode == ConfigMode::Preinstalled {
            return Ok(None);
        }
        let unfit = |message: String| Unfit {
            reason: Reason::Unsupported,
            message,
        };
        let Some(arch) = node.arch else {
            return Err(unfit(
                "the runtime is for the architectures amd64 and arm64".to_owned(),
            ));
        };
        if platforms.is_empty() {
            return Ok(Some(Artifact::Bundled));
        }
        let platform = platforms.iter().find(|platform| platform.arch == arch);
        let Platform {
            url, image, sha256, ..
        } = platform.cloned().ok_or_else(|| {
            unfit(format!(
                "artifact.platforms names no archive for {arch:?}: add one, or leave such \
                 nodes out with nodeSelector"
            ))
        })?;
        match (url, image) {
            (Some(url), None) => Ok(Some(Artifact::Url { url, sha256 })),
            (None, Some(reference)) => Ok(Some(Artifact::Image { reference, sha256 })),
            // The schema refuses these.
            _ => Err(Unfit {
                reason: Reason::InvalidRequest,
                message: format!("artifact.platforms: {arch:?} needs exactly one of url and image"),
            }),
        }
    }
}

/// Returns the digest of a Job's template: of the operator's settings in it, and of the request.
pub fn template(settings: &str, request: &Request) -> String {
    digest(&format!("{settings} {}", request.to_json()), 16)
}

/// Returns the first `letters` of the SHA-256 of `text`.
pub(super) fn digest(text: &str, letters: usize) -> String {
    let mut digest = format!("{:x}", Sha256::digest(text));
    digest.truncate(letters);
    digest
}

fn support(node: &NodeFacts, mode: ConfigMode) -> Result<(), Unfit> {
    match node.distribution.layout().support {
        Support::Full => Ok(()),
        Support::PreinstalledOnly(_) if mode == ConfigMode::Preinstalled => Ok(()),
        Support::PreinstalledOnly(why) | Support::No(why) => Err(Unfit {
            reason: Reason::Unsupported,
            message: why.to_owned(),
        }),
    }
}

/// Whether a selector selects a node's labels. An empty one selects all nodes except those of the
/// control plane.
pub(super) fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let empty = |list: Option<bool>| list.unwrap_or(true);
    if empty(selector.match_labels.as_ref().map(BTreeMap::is_empty))
        && empty(selector.match_expressions.as_ref().map(Vec::is_empty))
    {
        return !labels.contains_key(names::CONTROL_PLANE_LABEL);
    }
    // An expression that is not valid selects nothing, so that nodes stay as they are.
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}
