//! The Debian root file system of the cluster's nodes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::apt;
use crate::cache::{Cache, Key};
use crate::command::Run;
use crate::progress;
use crate::requirements::{self, Need};

/// Packages of a node: an init, networking tools that kubelet and kube-proxy call, runc, CNI
/// plugins.
const PACKAGES: &[&str] = &[
    "ca-certificates",
    "conntrack",
    "containernetworking-plugins",
    "dbus",
    "ethtool",
    "iproute2",
    "iptables",
    "kmod",
    "mount",
    "nftables",
    "procps",
    "runc",
    "socat",
    "systemd",
    "systemd-sysv",
    "util-linux",
];

/// Files that a node never reads.
const NEVER_READ: &[&str] = &[
    "var/cache/apt",
    "var/lib/apt/lists",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
];

/// The C library and the resolver library that its name resolution loads.
const C_LIBRARY: &[&str] = &["libc.so.6", "libresolv.so.2"];

/// The programs that kube-proxy calls, with their libraries; more of Debian would only slow down
/// the unpacking of its image.
const PACKET_FILTER: &[&str] = &[
    "conntrack",
    "iptables",
    "libc6",
    "libip4tc2",
    "libip6tc2",
    "libmnl0",
    "libnetfilter-conntrack3",
    "libnfnetlink0",
    "libnftnl11",
    "libxtables12",
];

/// Part of the key: increase it when this file makes another result from the same packages.
const FORMAT: &str = "2";

/// Timeout to fetch and configure a few dozen packages.
const BUILD_TIMEOUT: Duration = Duration::from_mins(20);

/// A root file system in the cache.
#[derive(Debug, Clone)]
pub(crate) struct Rootfs {
    /// The whole file system, as a layer.
    pub(crate) layer: PathBuf,
    /// A folder with the C library and its loader alone, for images of one program.
    pub(super) c_library: PathBuf,
    /// iptables and conntrack, as a layer.
    pub(super) packet_filter: PathBuf,
}

/// Returns the root file system of `suite`, which is made unless it is cached.
pub(crate) fn make(cache: &Cache, suite: &str) -> Result<Rootfs> {
    let inputs = [FORMAT, suite, std::env::consts::ARCH]
        .into_iter()
        .chain(PACKAGES.iter().copied());
    let place = cache.entry("node-rootfs", &Key::of(inputs), |draft| {
        requirements::install(&[
            Need {
                package: "debootstrap",
                provides: "debootstrap",
            },
            Need {
                package: "mount",
                provides: "mount",
            },
        ])?;
        progress::step(
            format_args!("made a Debian {suite} root file system for nodes"),
            || fill(suite, draft),
        )
    })?;
    Ok(Rootfs {
        layer: place.join("rootfs.tar"),
        c_library: place.join("c-library"),
        packet_filter: place.join("packet-filter.tar"),
    })
}

fn fill(suite: &str, draft: &Path) -> Result<()> {
    let root = draft.join("rootfs");
    // debootstrap mounts /proc in the new root; in a separate namespace that mount cannot outlive
    // it.
    Run::new("unshare")
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--",
            "debootstrap",
            "--variant=minbase",
        ])
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(suite)
        .arg(&root)
        .arg(apt::mirror()?)
        .deadline(BUILD_TIMEOUT)
        .done()?;
    for folder in NEVER_READ {
        let folder = root.join(folder);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
    }
    let everything = [
        "--sort=name",
        "--exclude=./dev/*",
        "--exclude=./proc/*",
        "--exclude=./sys/*",
        ".",
    ];
    pack(&root, &draft.join("rootfs.tar"))
        .args(everything)
        .done()?;
    let names = files_of_packet_filter(&root)?;
    pack(&root, &draft.join("packet-filter.tar"))
        .args(["--no-recursion", "--files-from=-"])
        .input(names.join("\n"))
        .done()?;
    take_c_library(&root, &draft.join("c-library"))?;
    fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))
}

fn pack(root: &Path, tar: &Path) -> Run {
    let run = Run::new("tar").args(["--create", "--numeric-owner", "--one-file-system"]);
    run.arg(format!("--file={}", tar.display()))
        .arg(format!("--directory={}", root.display()))
}

/// Returns the paths in `root`, relative to it, of the files in kube-proxy's image.
fn files_of_packet_filter(root: &Path) -> Result<Vec<String>> {
    let list = Run::new("chroot")
        .arg(root)
        .args(["dpkg-query", "--listfiles"])
        .args(PACKET_FILTER)
        .text()?;
    // Debian's packages still list /sbin and /lib, which are now links; the links themselves are
    // needed too.
    let mut names: Vec<String> = ["bin", "sbin", "lib", "lib64"].map(str::to_owned).into();
    names.extend(
        list.lines()
            .filter_map(|line| Some(merged(line.strip_prefix('/')?))),
    );
    let alternatives = fs::read_dir(root.join("etc/alternatives"))
        .context("list etc/alternatives of the root file system")?;
    for link in alternatives.flatten() {
        let name = link.file_name().to_string_lossy().into_owned();
        if name.contains("tables") {
            names.push(format!("usr/sbin/{name}"));
            names.push(format!("etc/alternatives/{name}"));
        }
    }
    names.retain(|name| root.join(name).symlink_metadata().is_ok());
    names.sort();
    names.dedup();
    Ok(names)
}

/// Returns the real path of a file, as /bin, /sbin and /lib are links into /usr.
fn merged(path: &str) -> String {
    let top = path.split('/').next().unwrap_or(path);
    if path != top && matches!(top, "bin" | "sbin" | "lib" | "lib64") {
        format!("usr/{path}")
    } else {
        path.to_owned()
    }
}

/// Copies the C library to the paths where programs look for it.
fn take_c_library(root: &Path, place: &Path) -> Result<()> {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let libraries = Path::new("lib").join(triplet);
    let loader = if std::env::consts::ARCH == "aarch64" {
        "lib/ld-linux-aarch64.so.1"
    } else {
        "lib64/ld-linux-x86-64.so.2"
    };
    for file in C_LIBRARY
        .iter()
        .map(|name| libraries.join(name))
        .chain([PathBuf::from(loader)])
    {
        let (from, to) = (root.join(&file), place.join(&file));
        let folder = to.parent().unwrap_or(place);
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_old_folders_are_resolved_to_usr() {
        assert_eq!(merged("sbin/iptables"), "usr/sbin/iptables");
        assert_eq!(merged("lib64"), "lib64");
        assert_eq!(
            merged("etc/alternatives/iptables"),
            "etc/alternatives/iptables"
        );
    }
}
