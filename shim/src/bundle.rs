//! An OCI bundle: the folder with `config.json` that containerd prepared for one container.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use pod_sandbox::files::{Completed, PodFiles};
use runtime_options::{GuestSettings, HandlerOptions, SettingError};

use crate::error::CreateError;
use crate::names::NodePath;
use crate::workload::CommandLine;

/// The file in a bundle that holds the OCI spec.
pub(crate) const CONFIG: &str = "config.json";
/// The file in a bundle in which containerd records the executable that it started for the
/// container. The name is containerd's.
const LAUNCHER: &str = "shim-binary-path";
/// Annotation by which CRI marks the sandbox (pause) container.
const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";
/// Annotation by which CRI names the pod sandbox that a container belongs to.
const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";
/// Annotation by which CRI gives the name that a container has in its pod.
const CONTAINER_NAME: &str = "io.kubernetes.cri.container-name";
/// Annotations by which CRI names the pod that a container belongs to.
const POD_NAMESPACE: &str = "io.kubernetes.cri.sandbox-namespace";
const POD_NAME: &str = "io.kubernetes.cri.sandbox-name";

/// The kind of container that CRI requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The pod's sandbox, which holds its namespaces and runs nothing.
    Sandbox,
    /// A container of the pod, or one that was started without CRI.
    Container,
}

/// A bundle in memory.
#[derive(Debug, Clone)]
pub(crate) struct Bundle {
    folder: PathBuf,
    spec: Spec,
}

impl Bundle {
    /// Reads `config.json` in `folder`.
    ///
    /// # Errors
    /// If it is missing or not a valid OCI runtime spec.
    pub(crate) fn load(folder: &Path) -> Result<Self, CreateError> {
        let file = folder.join(CONFIG);
        let spec = Spec::load(&file).map_err(|source| CreateError::Spec {
            file: NodePath::new(file),
            source,
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            spec,
        })
    }

    /// Adds the files that the pod's containers share, if this host made them in place of
    /// containerd. Changes `config.json` too, which libcontainer reads.
    ///
    /// # Errors
    /// If the pod's files cannot be read, or the spec cannot be written.
    pub(crate) fn complete(&mut self, files: &PodFiles) -> Result<(), CreateError> {
        if files.complete(&mut self.spec)? == Completed::Changed {
            let file = self.folder.join(CONFIG);
            self.spec.save(&file).map_err(|source| CreateError::Spec {
                file: NodePath::new(file),
                source,
            })?;
        }
        Ok(())
    }

    /// Records the executable that containerd must start for this container, unless containerd did.
    ///
    /// For further containers of a pod containerd 2 does not start the launcher, and so does not
    /// record it. After a restart it would look for an executable of the runtime's name along
    /// `PATH`, find none and lose the container.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn name_launcher(&self, launcher: &Path) -> Result<(), CreateError> {
        let file = self.folder.join(LAUNCHER);
        let written = File::create_new(&file)
            .and_then(|mut file| file.write_all(launcher.as_os_str().as_bytes()));
        match written {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(CreateError::Bundle {
                file: NodePath::new(file),
                source: error,
            }),
            _ => Ok(()),
        }
    }

    /// Creates a bundle of a known spec.
    #[cfg(test)]
    pub(crate) fn new(folder: impl Into<PathBuf>, spec: Spec) -> Self {
        Self {
            folder: folder.into(),
            spec,
        }
    }

    /// Returns the bundle's folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the container's root file system on the node; `root.path` may be relative to the
    /// bundle (OCI runtime spec, "Root").
    pub(crate) fn rootfs(&self) -> NodePath {
        let root = self
            .spec
            .root()
            .as_ref()
            .map_or(Path::new("rootfs"), |root| root.path().as_path());
        NodePath::new(self.folder.join(root))
    }

    /// Returns `process.args`; empty if there are none.
    pub(crate) fn args(&self) -> &[String] {
        self.spec
            .process()
            .as_ref()
            .and_then(|process| process.args().as_deref())
            .unwrap_or_default()
    }

    /// Returns `process.env`, each entry as `NAME=value`.
    pub(crate) fn env(&self) -> &[String] {
        self.spec
            .process()
            .as_ref()
            .and_then(|process| process.env().as_deref())
            .unwrap_or_default()
    }

    /// Returns `process.cwd`.
    pub(crate) fn cwd(&self) -> &Path {
        self.spec
            .process()
            .as_ref()
            .map_or(Path::new("/"), |process| process.cwd().as_path())
    }

    /// Returns the command line of the first process.
    pub(crate) fn command(&self) -> CommandLine<'_> {
        CommandLine {
            args: self.args(),
            env: self.env(),
            cwd: self.cwd(),
        }
    }

    /// Returns the spec.
    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Returns the path of the container's cgroup as containerd wrote it; empty if it did not.
    pub(crate) fn cgroups_path(&self) -> String {
        let path = self
            .spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.cgroups_path().as_ref());
        path.map(|path| path.display().to_string())
            .unwrap_or_default()
    }

    /// Returns the container's memory limit in bytes, if it has one.
    pub(crate) fn memory_limit(&self) -> Option<u64> {
        let resources = self.spec.linux().as_ref()?.resources().as_ref()?;
        let limit = resources.memory().as_ref()?.limit()?;
        u64::try_from(limit).ok().filter(|&limit| limit > 0)
    }

    /// Returns the spec's mounts, in the order in which they are made.
    pub(crate) fn mounts(&self) -> &[Mount] {
        self.spec.mounts().as_deref().unwrap_or_default()
    }

    /// Returns the kind of container.
    pub(crate) fn role(&self) -> Role {
        match self.annotation(CONTAINER_TYPE) {
            Some("sandbox") => Role::Sandbox,
            _ => Role::Container,
        }
    }

    /// Returns the id of the pod's sandbox, if CRI created the container.
    pub(crate) fn sandbox(&self) -> Option<&str> {
        self.annotation(SANDBOX_ID)
    }

    /// Returns the pod as `namespace/name`, if CRI created the container.
    pub(crate) fn pod(&self) -> Option<String> {
        Some(format!(
            "{}/{}",
            self.annotation(POD_NAMESPACE)?,
            self.annotation(POD_NAME)?
        ))
    }

    /// Returns the settings of the guest that the container runs: `options`, changed by the
    /// annotations of its pod. Native containers have none, so they ignore the annotations.
    ///
    /// # Errors
    /// If an annotation has an unknown key, a value that is not possible, or a key that `options`
    /// lock.
    pub(crate) fn guest_settings(
        &self,
        options: &HandlerOptions,
    ) -> Result<GuestSettings, SettingError> {
        let annotations = self.spec.annotations().iter().flatten();
        let annotations = annotations.map(|(name, value)| (name.as_str(), value.as_str()));
        GuestSettings::resolve(options, annotations, self.annotation(CONTAINER_NAME))
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.spec
            .annotations()
            .as_ref()?
            .get(name)
            .map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use runtime_options::CompilePolicy;

    use super::*;

    fn bundle(json: &str) -> Bundle {
        Bundle::new("/bundle", serde_json::from_str(json).unwrap())
    }

    #[test]
    fn root_may_be_relative_to_the_bundle_or_absolute() {
        assert_eq!(
            bundle(r#"{"ociVersion":"1.0.2","root":{"path":"rootfs"}}"#).rootfs(),
            NodePath::new("/bundle/rootfs")
        );
        assert_eq!(
            bundle(r#"{"ociVersion":"1.0.2","root":{"path":"/elsewhere"}}"#).rootfs(),
            NodePath::new("/elsewhere")
        );
    }

    #[test]
    fn executable_that_containerd_recorded_is_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = Bundle::new(
            folder.path(),
            serde_json::from_str(r#"{"ociVersion":"1.0.2"}"#).unwrap(),
        );
        for launcher in ["/first", "/second"] {
            bundle.name_launcher(Path::new(launcher)).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(folder.path().join("shim-binary-path")).unwrap(),
            "/first"
        );
    }

    #[test]
    fn settings_of_a_guest_come_from_the_annotations_for_its_container() {
        let with = |annotations: serde_json::Value| {
            let spec = serde_json::json!({ "ociVersion": "1.0.2", "annotations": annotations });
            bundle(&spec.to_string()).guest_settings(&HandlerOptions::default())
        };
        let (own, all) = (
            "runtime.wasmedge.dev/compile.app",
            "runtime.wasmedge.dev/compile",
        );
        let settings = |compile| GuestSettings {
            compile,
            ..GuestSettings::default()
        };
        let of_app = serde_json::json!({ (CONTAINER_NAME): "app", (own): "wait", (all): "never" });
        assert_eq!(with(of_app), Ok(settings(CompilePolicy::Wait)));
        // `ctr` names no container.
        let without_name = serde_json::json!({ (own): "wait", (all): "never" });
        assert_eq!(with(without_name), Ok(settings(CompilePolicy::Never)));
        assert_eq!(
            bundle(r#"{"ociVersion":"1.0.2"}"#).guest_settings(&HandlerOptions::default()),
            Ok(GuestSettings::default())
        );
        let unknown = serde_json::json!({ "runtime.wasmedge.dev/color": "red" });
        assert!(with(unknown).unwrap_err().to_string().contains("color"));
    }

    #[test]
    fn only_the_annotation_makes_a_sandbox() {
        assert_eq!(bundle(r#"{"ociVersion":"1.0.2"}"#).role(), Role::Container);
        let annotated = bundle(
            r#"{"ociVersion":"1.0.2","annotations":{"io.kubernetes.cri.container-type":"sandbox"}}"#,
        );
        assert_eq!(annotated.role(), Role::Sandbox);
    }
}
