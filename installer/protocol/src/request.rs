//! The argument of an installer Job, as JSON.

use serde::{Deserialize, Serialize};

use crate::layout::{Distribution, Layout};
use crate::settings::Settings;

/// A request to an installer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// The action.
    pub verb: Verb,
    /// Name of the `WasmRuntime`: a DNS label. It names files on the node, so that a node can have
    /// several runtimes.
    pub runtime: String,
    /// Name of the handler in containerd's CRI plugin and in the RuntimeClass.
    pub handler: String,
    /// The distribution that the operator detected from the Node object. The installer refuses the
    /// request if the node is another one, because the wrong paths are mounted then.
    pub distribution: Distribution,
    /// The source of the runtime. None in [`ConfigMode::Preinstalled`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
    /// The way in which the handler is added to containerd's configuration.
    #[serde(default)]
    pub mode: ConfigMode,
    /// The component that sets up the cgroups of the handler's containers.
    #[serde(default)]
    pub cgroup_driver: CgroupDriver,
    /// The settings of the handler. Omitted if they are defaults, so that an installer that does
    /// not know the field accepts the request.
    #[serde(default, skip_serializing_if = "Settings::is_default")]
    pub settings: Settings,
    /// Paths that differ from the distribution's.
    #[serde(default)]
    pub paths: Paths,
    /// Reference of the installer's own image. It contains the smoke guest, and the node has it.
    pub image: String,
}

impl Request {
    /// Returns the request as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a request holds texts and names only")
    }

    /// Returns the distribution's layout with the request's paths in it.
    pub fn layout(&self) -> Layout {
        self.distribution.layout().with(&self.paths)
    }
}

/// The action of an installer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verb {
    /// Brings the node to the requested state from any other. A second run changes nothing.
    Install,
    /// Removes everything of the runtime from the node.
    Uninstall,
}

/// The source of a runtime: a gzip-compressed tar archive with one folder
/// `wasmedge-runtime/<version>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Artifact {
    /// The installer's image.
    Bundled,
    /// A download.
    Url {
        /// The address: `https`, or `http` for a server that the cluster's admin runs.
        url: String,
        /// SHA-256 of the archive, 64 hexadecimal digits in lower case.
        sha256: String,
    },
    /// A layer of an OCI artifact.
    Image {
        /// Registry, repository, and tag or digest.
        reference: String,
        /// SHA-256 of the archive, which is the layer's digest.
        sha256: String,
    },
}

/// Configuration file of containerd that the installer edits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ConfigMode {
    /// A drop-in file if the node's containerd merges drop-ins correctly (2.0 and later), else the
    /// main file.
    #[default]
    Auto,
    /// A drop-in file; a node whose containerd cannot merge it is refused.
    DropIn,
    /// The main file.
    InPlace,
    /// No file: the node's image holds the runtime and the handler, and the installer only verifies
    /// that they work.
    Preinstalled,
}

/// The component that sets up the cgroups of the handler's containers. It has to be the kubelet's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CgroupDriver {
    /// The one that the node's pods use.
    #[default]
    Auto,
    /// systemd.
    Systemd,
    /// The runtime itself.
    Cgroupfs,
}

/// Paths and names on a node, if they differ from its distribution's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Paths {
    /// containerd's main configuration file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// containerd's socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// The systemd unit that runs containerd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The folder in which `wasmedge-runtime` is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install: Option<String>,
}

#[cfg(test)]
mod tests {
    use runtime_options::{HandlerOptions, LogLevel, Sandboxer};

    use super::*;

    #[test]
    fn request_is_read_as_it_was_written() {
        let request = Request {
            verb: Verb::Install,
            runtime: "wasmedge".to_owned(),
            handler: "wasmedge".to_owned(),
            distribution: Distribution::K3s,
            artifact: Some(Artifact::Url {
                url: "https://example.org/a.tar.gz".to_owned(),
                sha256: "0".repeat(64),
            }),
            mode: ConfigMode::Auto,
            cgroup_driver: CgroupDriver::Systemd,
            settings: Settings {
                options: HandlerOptions {
                    log_level: LogLevel::Debug,
                    ..HandlerOptions::default()
                },
                sandboxer: Sandboxer::Shim,
            },
            paths: Paths {
                socket: Some("/run/x.sock".to_owned()),
                ..Paths::default()
            },
            image: "registry.example/installer:1".to_owned(),
        };
        assert_eq!(
            serde_json::from_str::<Request>(&request.to_json()).unwrap(),
            request
        );
        assert_eq!(request.layout().socket, "/run/x.sock");
        let plain = Request {
            settings: Settings::default(),
            ..request
        };
        assert!(!plain.to_json().contains("settings"), "{}", plain.to_json());
        assert_eq!(
            serde_json::from_str::<Request>(&plain.to_json()).unwrap(),
            plain
        );
    }

    #[test]
    fn unknown_field_is_refused() {
        assert!(
            serde_json::from_str::<Request>(r#"{"verb":"Install","runtime":"a","handler":"a","distribution":"Systemd","image":"i","x":1}"#)
                .is_err()
        );
    }
}
