//! The Debian root file system that the cluster's nodes stand on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::apt;
use crate::cache::{Cache, Key};
use crate::command::Run;
use crate::host::{self, Need};
use crate::progress;

/// What a node needs of Debian: an init, networking tools that kubelet and kube-proxy call, runc, CNI plugins.
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

/// What a node never reads.
const NEVER_READ: &[&str] = &["var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"];

/// The C library and the name resolution that a program linked to it loads.
const C_LIBRARY: &[&str] = &["libc.so.6", "libresolv.so.2"];

/// Part of the key: raised when this file makes another thing of the same packages.
const FORMAT: &str = "1";

/// Fetching and configuring a few dozen packages.
const LIMIT: Duration = Duration::from_mins(20);

/// A root file system in the cache.
#[derive(Debug, Clone)]
pub(super) struct Rootfs {
    /// All of it, as a layer.
    pub(super) layer: PathBuf,
    /// A folder that holds the C library and its loader alone, for images of one program.
    pub(super) c_library: PathBuf,
}

/// The root file system made of `suite`, made now unless an earlier run did.
pub(super) fn make(cache: &Cache, suite: &str) -> Result<Rootfs> {
    let inputs = [FORMAT, suite, std::env::consts::ARCH].into_iter().chain(PACKAGES.iter().copied());
    let place = cache.entry("node-rootfs", &Key::of(inputs), |draft| {
        host::install(&[Need { package: "debootstrap", provides: "debootstrap" }, Need { package: "mount", provides: "mount" }])?;
        progress::step(format_args!("made a Debian {suite} root file system for nodes"), || fill(suite, draft))
    })?;
    Ok(Rootfs { layer: place.join("rootfs.tar"), c_library: place.join("c-library") })
}

fn fill(suite: &str, draft: &Path) -> Result<()> {
    let root = draft.join("rootfs");
    // debootstrap mounts /proc in the new root; in a namespace of its own that mount cannot outlive it.
    Run::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--", "debootstrap", "--variant=minbase"])
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(suite)
        .arg(&root)
        .arg(apt::mirror()?)
        .deadline(LIMIT)
        .done()?;
    for folder in NEVER_READ {
        let folder = root.join(folder);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
    }
    Run::new("tar")
        .arg("--create")
        .arg(format!("--file={}", draft.join("rootfs.tar").display()))
        .args(["--numeric-owner", "--sort=name", "--one-file-system", "--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./sys/*"])
        .arg(format!("--directory={}", root.display()))
        .arg(".")
        .done()?;
    take_c_library(&root, &draft.join("c-library"))?;
    fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))
}

/// Copies the C library under the paths where programs look for it.
fn take_c_library(root: &Path, place: &Path) -> Result<()> {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let libraries = Path::new("lib").join(triplet);
    let loader = if std::env::consts::ARCH == "aarch64" { "lib/ld-linux-aarch64.so.1" } else { "lib64/ld-linux-x86-64.so.2" };
    for file in C_LIBRARY.iter().map(|name| libraries.join(name)).chain([PathBuf::from(loader)]) {
        let (from, to) = (root.join(&file), place.join(&file));
        let folder = to.parent().unwrap_or(place);
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
    }
    Ok(())
}
