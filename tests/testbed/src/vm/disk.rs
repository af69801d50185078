//! The machine's disks: a root that is made once, and one with the parts under test.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cache::{Cache, Key};
use crate::cluster::rootfs;
use crate::command::Run;
use crate::progress;

/// Mount point of the second disk in the machine.
pub const PARTS: &str = "/parts";
/// Part of the key: increase it when this file makes another disk from the same inputs.
const FORMAT: &str = "1";
/// Size of the root in mebibytes, with space for imports and runs. The image is sparse and takes
/// space only when it is used.
const ROOT_SIZE: u64 = 2048;
/// Overhead of a file system; a twentieth is for inodes.
const FILE_SYSTEM_OVERHEAD: u64 = 32 << 20;

/// Small files of the root.
const FILES: &[(&str, &str)] = &[
    (
        "etc/systemd/system/containerd.service",
        include_str!("../../vm/containerd.service"),
    ),
    (
        "etc/systemd/system/inside.service",
        include_str!("../../vm/inside.service"),
    ),
    (
        "etc/containerd/config.toml",
        include_str!("../../vm/containerd.toml"),
    ),
    (
        "opt/handlers/cgroupfs/options.toml",
        "SystemdCgroup = false\n",
    ),
    (
        "opt/handlers/systemd/options.toml",
        "SystemdCgroup = true\n",
    ),
];
/// Links to the launcher, each beside a file with runtime options.
const LAUNCHER_LINKS: &[&str] = &[
    "/opt/handlers/cgroupfs/containerd-shim-wasmedge-v1",
    "/opt/handlers/systemd/containerd-shim-wasmedge-v1",
];
/// The launcher, on the second disk.
const LAUNCHER: &str = "/parts/runtime/bin/containerd-shim-wasmedge-v1";
const STARTED_UNITS: &[&str] = &["containerd.service", "inside.service"];
/// Units that would wait for devices without udev, or do work that no test needs.
const MASKED_UNITS: &[&str] = &[
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
];

/// A file or folder on the second disk.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its path below [`PARTS`].
    pub name: String,
    /// The file or folder of this machine that is copied.
    pub source: PathBuf,
}

impl Part {
    /// Creates a part from `source` with the name `name`.
    pub fn new(name: &str, source: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            source: source.into(),
        }
    }
}

/// Returns the image of the root: Debian `suite` as on the nodes of clusters, with the units of
/// containerd and of the program inside.
pub(super) fn root(cache: &Cache, suite: &str) -> Result<PathBuf> {
    let layer = rootfs::make(cache, suite)?.layer;
    let mut inputs: Vec<String> = vec![
        FORMAT.to_owned(),
        ROOT_SIZE.to_string(),
        layer.display().to_string(),
    ];
    inputs.extend(
        FILES
            .iter()
            .flat_map(|(path, text)| [path, text])
            .chain(STARTED_UNITS)
            .chain(MASKED_UNITS)
            .chain(LAUNCHER_LINKS)
            .map(|text| (*text).to_owned()),
    );
    let place = cache.entry("vm-root", &Key::of(inputs), |draft| {
        progress::step(
            format_args!("made the disk of a machine with Debian {suite}"),
            || {
                let tree = draft.join("tree");
                fs::create_dir(&tree).with_context(|| format!("make {}", tree.display()))?;
                Run::new("tar")
                    .args(["--extract", "--numeric-owner", "--file"])
                    .arg(&layer)
                    .arg("--directory")
                    .arg(&tree)
                    .done()?;
                lay_out(&tree)?;
                image(&tree, &draft.join("root.img"), ROOT_SIZE << 20)?;
                fs::remove_dir_all(&tree).with_context(|| format!("remove {}", tree.display()))
            },
        )
    })?;
    Ok(place.join("root.img"))
}

/// Makes the image of the second disk in `folder`.
pub(super) fn parts(folder: &Path, parts: &[Part]) -> Result<PathBuf> {
    let tree = folder.join("parts");
    for part in parts {
        let place = tree.join(&part.name);
        let above = place.parent().unwrap_or(&tree);
        fs::create_dir_all(above).with_context(|| format!("make {}", above.display()))?;
        Run::new("cp")
            .args(["--archive", "-H", "--"])
            .arg(&part.source)
            .arg(&place)
            .done()?;
    }
    let size = size(&tree)?;
    let file = folder.join("parts.img");
    image(&tree, &file, size + size / 10 + FILE_SYSTEM_OVERHEAD)?;
    fs::remove_dir_all(&tree).with_context(|| format!("remove {}", tree.display()))?;
    Ok(file)
}

/// Lays out the root's additions to Debian.
fn lay_out(tree: &Path) -> Result<()> {
    for (path, text) in FILES {
        let path = tree.join(path);
        make_folder_of(&path)?;
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    let units = Path::new("/etc/systemd/system");
    for unit in STARTED_UNITS {
        point(
            &units.join(unit),
            tree,
            &units.join("multi-user.target.wants").join(unit),
        )?;
    }
    for link in LAUNCHER_LINKS {
        point(Path::new(LAUNCHER), tree, Path::new(link))?;
    }
    for unit in MASKED_UNITS {
        point(Path::new("/dev/null"), tree, &units.join(unit))?;
    }
    point(
        Path::new("/lib/systemd/system/multi-user.target"),
        tree,
        &units.join("default.target"),
    )?;
    for folder in [PARTS, "/dev", "/proc", "/sys", "/run"] {
        let folder = tree.join(inside(Path::new(folder)));
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    }
    Ok(())
}

/// Makes the file system `file` of `size` bytes with the content of `tree`.
fn image(tree: &Path, file: &Path, size: u64) -> Result<()> {
    // No journal: the content is discarded when the machine is off.
    let options = ["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d"];
    Run::new("mke2fs")
        .args(options)
        .arg(tree)
        .arg(file)
        .arg(format!("{}k", size / 1024))
        .done()
}

/// Returns the size of everything below `folder`, in whole blocks.
fn size(folder: &Path) -> Result<u64> {
    const BLOCK: u64 = 4096;
    let mut sum = BLOCK;
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry.with_context(|| format!("list {}", folder.display()))?;
        let facts = entry
            .metadata()
            .with_context(|| format!("look at {}", entry.path().display()))?;
        sum += if facts.is_dir() {
            size(&entry.path())?
        } else {
            facts.len().next_multiple_of(BLOCK) + 256
        };
    }
    Ok(sum)
}

/// Makes the symbolic link `place`, which lies in `tree`, point to `target`, as seen inside.
fn point(target: &Path, tree: &Path, place: &Path) -> Result<()> {
    let place = tree.join(inside(place));
    make_folder_of(&place)?;
    if place.symlink_metadata().is_ok() {
        fs::remove_file(&place).with_context(|| format!("remove {}", place.display()))?;
    }
    symlink(target, &place).with_context(|| format!("make the link {}", place.display()))
}

fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn make_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_started_unit_is_a_file_of_the_disk() {
        for unit in STARTED_UNITS {
            assert!(FILES.iter().any(|(path, _)| path.ends_with(unit)), "{unit}");
        }
    }

    #[test]
    fn unit_that_debian_starts_can_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            lay_out(folder.path()).unwrap();
        }
        let link = folder.path().join("etc/systemd/system/default.target");
        assert_eq!(
            fs::read_link(link).unwrap(),
            Path::new("/lib/systemd/system/multi-user.target")
        );
    }
}
