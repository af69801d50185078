//! A node as a folder with fake services, and its observation by tests.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use installer_protocol::layout::parent;
use installer_protocol::{
    Artifact, CgroupDriver, ConfigMode, Distribution, Outcome, Paths, Reason, Report, Request, Verb,
};
use node_installer::installation::{Cancellation, Installation, TargetNode};
use node_installer::node_root::NodeRoot;
use node_installer::program::perform;
use sha2::{Digest as _, Sha256};

use crate::fake_machine::{FakeMachine, Killed};

/// A shortened main file of kind's nodes.
pub(crate) const CONFIG: &str = r#"# written by the node's image
version = 2

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10"
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = true
"#;

/// A node with a request for it.
pub(crate) struct FakeNode {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) machine: FakeMachine,
    pub(crate) request: Request,
}

impl FakeNode {
    /// Makes a node of kubeadm or kind with containerd 2.1.
    pub(crate) fn new() -> Self {
        Self::with(
            Distribution::Systemd,
            "2.1.5",
            "containerd.service",
            &[("/etc/containerd/config.toml", CONFIG)],
        )
    }

    /// As [`Self::new`], with containerd 1.7, whose main file is edited in place.
    pub(crate) fn old() -> Self {
        Self::with(
            Distribution::Systemd,
            "1.7.24",
            "containerd.service",
            &[("/etc/containerd/config.toml", CONFIG)],
        )
    }

    /// Makes a node of a distribution with these files.
    pub(crate) fn with(
        distribution: Distribution,
        version: &'static str,
        unit: &str,
        files: &[(&str, &str)],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let layout = distribution.layout();
        let put = |path: &str, text: &str| {
            let place = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, text).unwrap();
        };
        put("/usr/lib/os-release", "ID=debian\n");
        put("/usr/bin/containerd", "");
        put(&layout.programs[0], "");
        put("/run/systemd/private", "");
        put(&layout.socket, "");
        // containerd creates it when it starts.
        let bundles = format!("{}/io.containerd.runtime.v2.task", layout.state);
        for mount in [
            &bundles,
            &layout.install,
            parent(&layout.config),
            "/sys/fs/cgroup/kubelet.slice/kubelet-kubepods.slice",
        ] {
            fs::create_dir_all(root.join(mount.trim_start_matches('/'))).unwrap();
        }
        put("/sys/fs/cgroup/cgroup.controllers", "");
        symlink("usr/lib", root.join("lib")).unwrap();
        for (path, text) in files {
            put(path, text);
        }
        let program = folder.path().join("own-program");
        fs::write(&program, "program").unwrap();
        let machine = FakeMachine::new(
            NodeRoot::new(&root),
            &layout.config,
            &layout.state,
            Some(unit),
            version,
            program,
        );
        let request = Request {
            verb: Verb::Install,
            runtime: "wasmedge".to_owned(),
            handler: "wasmedge".to_owned(),
            distribution,
            artifact: Some(Artifact::Bundled),
            mode: ConfigMode::Auto,
            cgroup_driver: CgroupDriver::Auto,
            settings: installer_protocol::Settings::default(),
            paths: Paths::default(),
            image: "registry.example/node-installer:1".to_owned(),
        };
        let node = Self {
            folder,
            machine,
            request,
        };
        node.bundle("1.0.0", "good");
        node
    }

    /// Puts an archive into the installer's image.
    pub(crate) fn bundle(&self, version: &str, launcher: &str) {
        let archive = archive(self.folder.path(), version, launcher);
        *self.machine.bundled.borrow_mut() = archive;
    }

    /// As [`Self::bundle`], with a runtime that reads only an options table in containerd's
    /// configuration.
    pub(crate) fn bundle_without_options_file(&self, version: &str) {
        let archive = archive_with(self.folder.path(), version, "good", &serde_json::json!({}));
        *self.machine.bundled.borrow_mut() = archive;
    }

    /// Reads the options file beside the launcher of the last guest.
    pub(crate) fn options(&self) -> String {
        self.read(&format!(
            "{}/options.toml",
            parent(self.machine.guests.borrow().last().unwrap())
        ))
    }

    /// Returns the number of versions and entries of the runtime.
    pub(crate) fn versions(&self) -> usize {
        fs::read_dir(self.path("/opt/wasmedge-runtime/wasmedge"))
            .unwrap()
            .count()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub(crate) fn install(&self) -> Report {
        self.perform(&self.request)
    }

    pub(crate) fn uninstall(&self) -> Report {
        self.perform(&Request {
            verb: Verb::Uninstall,
            ..self.request.clone()
        })
    }

    pub(crate) fn perform(&self, request: &Request) -> Report {
        let report = perform(
            TargetNode {
                root: &self.machine.root,
                machine: &self.machine,
                cancellation: &Cancellation::default(),
            },
            request,
        );
        assert!(!report.message.is_empty(), "{report:?}");
        report
    }

    pub(crate) fn installed(&self) -> Report {
        let report = self.install();
        assert_eq!(report.outcome, Outcome::Installed, "{report:#?}");
        assert!(self.machine.is_up_to_date());
        report
    }

    pub(crate) fn removed(&self) -> Report {
        let report = self.uninstall();
        assert_eq!(
            (report.outcome, report.reason),
            (Outcome::Removed, Reason::Done),
            "{report:#?}"
        );
        assert!(self.machine.is_up_to_date());
        report
    }

    /// Performs a request in a process that is killed at its step number `step`. Returns whether it
    /// reached that step.
    pub(crate) fn killed_at(&self, step: usize, verb: Verb) -> bool {
        self.machine.steps.set(0);
        self.machine.kill_at.set(Some(step));
        let request = Request {
            verb,
            ..self.request.clone()
        };
        let ended = catch_unwind(AssertUnwindSafe(|| self.perform(&request)));
        self.machine.kill_at.set(None);
        match ended {
            Ok(_) => false,
            Err(payload) if payload.is::<Killed>() => true,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }

    /// Calls `with` with the context of a guard.
    pub(crate) fn with_installation<T>(&self, with: impl FnOnce(&Installation<'_>) -> T) -> T {
        let cancellation = Cancellation::default();
        let node = TargetNode {
            root: &self.machine.root,
            machine: &self.machine,
            cancellation: &cancellation,
        };
        with(&Installation::new(node, &self.request).unwrap())
    }

    /// Adds the bundle of a container that `launcher` serves.
    pub(crate) fn run_container(&self, id: &str, launcher: &str) {
        let bundle = self.path(&format!(
            "/run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}"
        ));
        fs::create_dir_all(&bundle).unwrap();
        fs::write(bundle.join("shim-binary-path"), launcher).unwrap();
    }

    pub(crate) fn delete_containers(&self) {
        fs::remove_dir_all(self.path("/run/containerd/io.containerd.runtime.v2.task/k8s.io"))
            .unwrap();
    }

    /// Returns every file, folder and link of the node, with mode, owner and content.
    pub(crate) fn tree(&self) -> Tree {
        let mut tree = Tree::default();
        tree.add(&self.root(), &self.root());
        tree
    }
}

/// The content of a folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree(pub(crate) BTreeMap<PathBuf, (u32, u32, Vec<u8>)>);

impl Tree {
    fn add(&mut self, root: &Path, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let facts = fs::symlink_metadata(&path).unwrap();
            let content = if facts.is_dir() {
                self.add(root, &path);
                Vec::new()
            } else if facts.is_symlink() {
                fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            self.0.insert(
                path.strip_prefix(root).unwrap().to_owned(),
                (facts.mode(), facts.uid(), content),
            );
        }
    }

    /// Panics with the paths that differ.
    pub(crate) fn must_be(&self, expected: &Self, when: &str) {
        let differ = |path: &&PathBuf| self.0.get(*path) != expected.0.get(*path);
        let paths: Vec<&PathBuf> = self
            .0
            .keys()
            .chain(expected.0.keys())
            .filter(differ)
            .collect();
        assert!(paths.is_empty(), "{when}: {paths:?} differ");
    }
}

/// Makes an archive of a runtime, with its digest beside it.
pub(crate) fn archive(folder: &Path, version: &str, launcher: &str) -> PathBuf {
    archive_with(
        folder,
        version,
        launcher,
        &serde_json::json!({ "options_file": true }),
    )
}

/// Makes an archive of a runtime with further fields in its manifest.
fn archive_with(folder: &Path, version: &str, launcher: &str, more: &serde_json::Value) -> PathBuf {
    let digest = |bytes: &[u8]| format!("{:x}", Sha256::digest(bytes));
    let files: Vec<(&str, String)> = vec![
        (
            "bin/containerd-shim-wasmedge-v1",
            format!("launcher of {version}: {launcher}"),
        ),
        ("bin/wasmedge-host", "host".to_owned()),
        ("lib/ld-linux.so.2", "loader".to_owned()),
    ];
    let digests: BTreeMap<&str, String> = files
        .iter()
        .map(|(path, text)| (*path, digest(text.as_bytes())))
        .collect();
    let mut manifest = serde_json::json!({ "version": version,
        "architecture": std::env::consts::ARCH, "loader": "ld-linux.so.2", "files": digests });
    manifest
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let path = folder.join(format!(
        "runtime-{version}-{}-{}.tar.gz",
        launcher.len(),
        manifest.to_string().len()
    ));
    let mut tar = tar::Builder::new(GzEncoder::new(
        fs::File::create(&path).unwrap(),
        flate2::Compression::fast(),
    ));
    for (name, text) in [("share/manifest.json", manifest.to_string())]
        .iter()
        .chain(&files)
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(if name.starts_with("share") {
            0o644
        } else {
            0o755
        });
        tar.append_data(
            &mut header,
            format!("wasmedge-runtime/{version}/{name}"),
            text.as_bytes(),
        )
        .unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
    let sum = digest(&fs::read(&path).unwrap());
    fs::write(
        format!("{}.sha256", path.display()),
        format!("{sum}  runtime.tar.gz\n"),
    )
    .unwrap();
    path
}
