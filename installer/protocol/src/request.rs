//! The argument of an installer Job: one JSON text, written and read by this type.

use serde::{Deserialize, Serialize};

use crate::layout::{Distribution, Layout};
use crate::settings::Settings;

/// What an installer is to do on its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// What is to be done.
    pub verb: Verb,
    /// Name of the `WasmRuntime`: a DNS label. Names files on the node, so that several runtimes
    /// lie side by side.
    pub runtime: String,
    /// Name that containerd's CRI plugin knows the runtime by, and that the RuntimeClass says.
    pub handler: String,
    /// Which distribution the operator takes the node for, from its Node object. The installer
    /// refuses when the host says otherwise, because the wrong paths are mounted then.
    pub distribution: Distribution,
    /// Where the runtime comes from. None in [`ConfigMode::Preinstalled`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
    /// How containerd learns of the handler.
    #[serde(default)]
    pub mode: ConfigMode,
    /// Who sets up the cgroups of the handler's containers.
    #[serde(default)]
    pub cgroup_driver: CgroupDriver,
    /// What is chosen of the handler. Left out where nothing is: an installer that does not know it
    /// can be asked still.
    #[serde(default, skip_serializing_if = "Settings::is_default")]
    pub settings: Settings,
    /// What lies elsewhere than the distribution puts it.
    #[serde(default)]
    pub paths: Paths,
    /// Reference of the image that the installer itself runs from. It holds the smoke guest, and
    /// the node has it.
    pub image: String,
}

impl Request {
    /// The argument as text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a request holds texts and names only")
    }

    /// The distribution's layout, with the request's own paths in it.
    pub fn layout(&self) -> Layout {
        self.distribution.layout().with(&self.paths)
    }
}

/// What an installer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verb {
    /// Brings the node to what the request says, whatever it is now. Doing it twice changes
    /// nothing.
    Install,
    /// Takes everything of the runtime off the node.
    Uninstall,
}

/// Where a runtime comes from: an archive (gzip, tar) with one folder `wasmedge-runtime/<version>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Artifact {
    /// It lies in the installer's image.
    Bundled,
    /// It is downloaded.
    Url {
        /// Where from; `https`, or `http` for a host that the cluster's admin runs.
        url: String,
        /// SHA-256 of the archive, 64 hexadecimal digits in lower case.
        sha256: String,
    },
    /// It is a layer of an OCI artifact.
    Image {
        /// Registry, repository, and tag or digest.
        reference: String,
        /// SHA-256 of the archive, which is the layer's digest.
        sha256: String,
    },
}

/// How containerd learns of the handler.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConfigMode {
    /// A drop-in where the node's containerd merges those rightly (2.0 and later), else the main
    /// file.
    #[default]
    Auto,
    /// A drop-in, or a refusal.
    DropIn,
    /// An edit of the main file.
    InPlace,
    /// Nothing is written: the node's image has runtime and handler, the installer only proves that
    /// they work.
    Preinstalled,
}

/// Who sets up the cgroups of the handler's containers. It has to be whom the kubelet uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CgroupDriver {
    /// Whom the node's pods are seen to use.
    #[default]
    Auto,
    /// systemd.
    Systemd,
    /// The runtime itself.
    Cgroupfs,
}

/// Paths and names on a host, where they differ from its distribution's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Paths {
    /// containerd's main configuration file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// containerd's socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// The systemd unit that is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The folder that the runtime's folder `wasmedge-runtime` is made in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{LogLevel, Sandboxer};

    #[test]
    fn a_request_is_read_as_it_was_written() {
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
                log_level: LogLevel::Debug,
                sandboxer: Sandboxer::Shim,
                ..Settings::default()
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
    fn a_field_that_nobody_knows_is_refused() {
        assert!(
            serde_json::from_str::<Request>(r#"{"verb":"Install","runtime":"a","handler":"a","distribution":"Systemd","image":"i","x":1}"#)
                .is_err()
        );
    }
}
