//! The node image: Debian, containerd, kubelet, kubeadm, and the images of the control plane.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::archive::{Archive, Program};
use super::rootfs::{self, Rootfs};
use crate::cache::{Cache, Key};
use crate::command::Run;
use crate::go::{self, modules};
use crate::progress;
use crate::requirements::{self, Need};
use crate::versions::Versions;

/// Part of the key: increase it when this file makes another image from the same inputs.
const FORMAT: &str = "2";

/// Small files of the image: path, mode, content.
const FILES: &[(&str, u32, &str)] = &[
    (
        "usr/local/bin/entrypoint",
        0o755,
        include_str!("../../node-image/entrypoint"),
    ),
    (
        "usr/local/bin/kubelet-cgroup",
        0o755,
        include_str!("../../node-image/kubelet-cgroup"),
    ),
    (
        "etc/systemd/system/containerd.service",
        0o644,
        include_str!("../../node-image/containerd.service"),
    ),
    (
        "etc/systemd/system/kubelet.service",
        0o644,
        include_str!("../../node-image/kubelet.service"),
    ),
    (
        "etc/systemd/system/kubelet.service.d/kubeadm.conf",
        0o644,
        include_str!("../../node-image/kubeadm.conf"),
    ),
    (
        "etc/systemd/system/load-images.service",
        0o644,
        include_str!("../../node-image/load-images.service"),
    ),
    (
        "etc/systemd/system/load-control-plane-images.service",
        0o644,
        include_str!("../../node-image/load-control-plane-images.service"),
    ),
    (
        "etc/containerd/config.toml",
        0o644,
        include_str!("../../node-image/containerd.toml"),
    ),
];

/// Placeholder in containerd's settings for the name of the pause image, which kubeadm decides.
const PAUSE: &str = "@PAUSE@";
const PAUSE_SOURCE: &str = include_str!("../../node-image/pause.c");

const STARTED_UNITS: &[&str] = &[
    "containerd.service",
    "kubelet.service",
    "load-images.service",
    "load-control-plane-images.service",
];

/// Units of systemd that do not work in a container, or would compete with the machine for devices
/// and networks.
const MASKED_UNITS: &[&str] = &[
    "console-getty.service",
    "getty.target",
    "systemd-logind.service",
    "systemd-networkd.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
];

/// The node image, as a file that `docker load` reads.
#[derive(Debug, Clone)]
pub(super) struct NodeImage {
    /// The archive.
    pub(super) archive: PathBuf,
    /// The image's name in it.
    pub(super) name: String,
}

/// Folders of the programs in the image.
struct Programs {
    kubernetes: PathBuf,
    containerd: PathBuf,
    etcd: PathBuf,
    coredns: PathBuf,
}

/// Returns the node image of these versions, which is made unless it is cached.
pub(super) fn make(cache: &Cache, versions: &Versions) -> Result<NodeImage> {
    let programs = Programs {
        kubernetes: go::build(cache, &modules::kubernetes(&versions.cluster))?,
        containerd: go::containerd(cache, &versions.containerd.current)?,
        etcd: go::build(cache, &modules::etcd(&versions.cluster))?,
        coredns: go::build(cache, &modules::coredns(&versions.cluster))?,
    };
    let rootfs = rootfs::make(cache, &versions.cluster.debian)?;
    let key = key(&programs, &rootfs);
    let name = format!("wasmedge-runtime/node:{}", key.as_str());
    let place = cache.entry("node-image", &key, |draft| {
        requirements::install(&[
            Need {
                package: "gcc",
                provides: "gcc",
            },
            Need {
                package: "libc6-dev",
                provides: "/usr/include/stdlib.h",
            },
        ])?;
        progress::step(
            format_args!(
                "made the node image of Kubernetes {}",
                versions.cluster.kubernetes
            ),
            || {
                Build {
                    programs: &programs,
                    rootfs: &rootfs,
                    version: &versions.cluster.kubernetes,
                    draft,
                }
                .run(&name)
            },
        )
    })?;
    Ok(NodeImage {
        archive: place.join("node.tar"),
        name,
    })
}

/// Computes the image's key. The paths of the programs and of the root file system contain the
/// digests of their inputs.
fn key(programs: &Programs, rootfs: &Rootfs) -> Key {
    let places = [
        &programs.kubernetes,
        &programs.containerd,
        &programs.etcd,
        &programs.coredns,
        &rootfs.layer,
    ];
    let mut inputs: Vec<String> = vec![
        FORMAT.to_owned(),
        PAUSE_SOURCE.to_owned(),
        STARTED_UNITS.concat(),
        MASKED_UNITS.concat(),
    ];
    inputs.extend(places.iter().map(|place| place.display().to_string()));
    inputs.extend(
        FILES
            .iter()
            .map(|(path, mode, text)| format!("{path} {mode} {text}")),
    );
    Key::of(inputs)
}

struct Build<'a> {
    programs: &'a Programs,
    rootfs: &'a Rootfs,
    version: &'a str,
    draft: &'a Path,
}

impl Build<'_> {
    fn run(&self, name: &str) -> Result<()> {
        let names = self.names_of_images()?;
        let pause = names
            .iter()
            .find(|name| name.contains("/pause:"))
            .context("kubeadm names no pause image")?
            .clone();
        let tree = self.draft.join("node");
        let images = tree.join("kind/images");
        fs::create_dir_all(&images).with_context(|| format!("make {}", images.display()))?;
        let (control_plane, node): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| is_control_planes(name));
        self.images(&node, &images.join("node.tar"))?;
        self.images(&control_plane, &images.join("control-plane.tar"))?;
        self.node_tree(&tree, &pause)?;
        let mut archive = Archive::new(self.draft.join("archive"))?;
        let base = archive.layer_from(&self.rootfs.layer)?;
        let layer = archive.layer_of(&tree)?;
        let program = Program {
            entrypoint: &["/usr/local/bin/entrypoint", "/sbin/init"],
            env: &["container=docker"],
            // The stop signal of systemd: shut down.
            stop_signal: Some("SIGRTMIN+3"),
        };
        archive.image(name, &[&base, &layer], &program)?;
        archive.finish(&self.draft.join("node.tar"))?;
        fs::remove_dir_all(&tree).with_context(|| format!("remove {}", tree.display()))
    }

    fn names_of_images(&self) -> Result<Vec<String>> {
        let list = Run::new(self.programs.kubernetes.join("kubeadm"))
            .args([
                "config",
                "images",
                "list",
                "--kubernetes-version",
                &format!("v{}", self.version),
            ])
            .text()?;
        Ok(list.lines().map(str::to_owned).collect())
    }

    /// Packs the images `names`, each of one program, into `file`.
    fn images(&self, names: &[String], file: &Path) -> Result<()> {
        let mut archive = Archive::new(self.draft.join("images"))?;
        for name in names {
            let program = program_of(name);
            let tree = self.draft.join("program");
            let path = tree.join("usr/local/bin").join(program);
            make_folder_of(&path)?;
            match program {
                "pause" => compile_pause(&path)?,
                "etcd" => link(&self.programs.etcd.join(program), &path)?,
                "coredns" => link(&self.programs.coredns.join(program), &path)?,
                _ => link(&self.programs.kubernetes.join(program), &path)?,
            }
            let below = match program {
                "pause" | "etcd" | "coredns" => None,
                "kube-proxy" => Some(archive.layer_from(&self.rootfs.packet_filter)?),
                _ => Some(archive.layer_of(&self.rootfs.c_library)?),
            };
            let own = archive.layer_of(&tree)?;
            let layers: Vec<_> = below.iter().chain([&own]).collect();
            let entrypoint = format!("/usr/local/bin/{program}");
            archive.image(
                name,
                &layers,
                &Program {
                    entrypoint: &[&entrypoint],
                    ..Program::default()
                },
            )?;
            fs::remove_dir_all(&tree).with_context(|| format!("remove {}", tree.display()))?;
        }
        archive.finish(file)
    }

    /// Lays out the node image's additions to Debian.
    fn node_tree(&self, tree: &Path, pause: &str) -> Result<()> {
        for (path, mode, text) in FILES {
            let path = tree.join(path);
            make_folder_of(&path)?;
            fs::write(&path, text.replace(PAUSE, pause))
                .with_context(|| format!("write {}", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode))
                .with_context(|| format!("set the rights of {}", path.display()))?;
        }
        for program in ["containerd", "ctr", "containerd-shim-runc-v2"] {
            link(
                &self.programs.containerd.join(program),
                &tree.join("usr/local/bin").join(program),
            )?;
        }
        fs::create_dir_all(tree.join("usr/bin")).context("make usr/bin of the node image")?;
        for program in ["kubeadm", "kubelet", "kubectl"] {
            link(
                &self.programs.kubernetes.join(program),
                &tree.join("usr/bin").join(program),
            )?;
        }
        let units = Path::new("/etc/systemd/system");
        for unit in STARTED_UNITS {
            point(
                &units.join(unit),
                tree,
                &units.join("multi-user.target.wants").join(unit),
            )?;
        }
        for unit in MASKED_UNITS {
            point(Path::new("/dev/null"), tree, &units.join(unit))?;
        }
        point(
            Path::new("/lib/systemd/system/multi-user.target"),
            tree,
            &units.join("default.target"),
        )?;
        // kind's documentation and the operator's users expect plugins there.
        point(Path::new("/usr/lib/cni"), tree, Path::new("/opt/cni/bin"))?;
        // kubelet logs an error every second if the folder for static pods is missing.
        for folder in ["kind/manifests", "etc/kubernetes/manifests"] {
            fs::create_dir_all(tree.join(folder))
                .with_context(|| format!("make {folder} of the node image"))?;
        }
        fs::write(tree.join("kind/version"), format!("v{}", self.version))
            .context("write kind/version of the node image")
    }
}

/// Returns whether only control planes run this image.
fn is_control_planes(name: &str) -> bool {
    !matches!(program_of(name), "pause" | "coredns" | "kube-proxy")
}

/// Returns the program of an image: `kube-proxy` of `registry/kube-proxy:v1`.
fn program_of(image: &str) -> &str {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split(':').next().unwrap_or(last)
}

fn compile_pause(place: &Path) -> Result<()> {
    Run::new("gcc")
        .args(["-static", "-Os", "-s", "-x", "c", "-", "-o"])
        .arg(place)
        .input(PAUSE_SOURCE)
        .done()
}

fn make_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))
}

/// Hard-links a file of the cache, because copying hundreds of megabytes takes long.
fn link(from: &Path, to: &Path) -> Result<()> {
    fs::hard_link(from, to).with_context(|| format!("link {} to {}", to.display(), from.display()))
}

/// Makes the symbolic link `place`, which lies in `tree`, point to `target`, as seen inside.
fn point(target: &Path, tree: &Path, place: &Path) -> Result<()> {
    let place = tree.join(place.strip_prefix("/").unwrap_or(place));
    make_folder_of(&place)?;
    symlink(target, &place).with_context(|| format!("make the link {}", place.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_image_has_no_control_plane_images() {
        assert_eq!(
            program_of("registry.k8s.io/coredns/coredns:v1.14.0"),
            "coredns"
        );
        assert!(!is_control_planes("registry.k8s.io/pause:3.10.2"));
        assert!(is_control_planes("registry.k8s.io/kube-apiserver:v1.37.2"));
    }

    #[test]
    fn every_started_unit_is_a_file_of_the_image() {
        for unit in STARTED_UNITS {
            assert!(
                FILES.iter().any(|(path, _, _)| path.ends_with(unit)),
                "{unit}"
            );
        }
    }
}
