//! Debian's kernel for emulated machines, and its initial file system: a shell, and the modules
//! that it needs to reach the disks.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::apt::{self, Dependencies, Request};
use crate::cache::{Cache, Key};
use crate::command::Run;
use crate::requirements::{self, Need};

/// The package that depends on the newest kernel of its kind.
const PACKAGE: &str = "linux-image-cloud-amd64";
/// The modules in the order of their dependencies: those for the disks, then overlayfs for
/// containerd.
const MODULES: &[&str] = &[
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "overlay",
];
/// The init script.
const INIT: &str = include_str!("../../vm/init");
/// Placeholder in it for the names of the modules.
const NAMES: &str = "@MODULES@";
/// Part of the key: increase it when this file makes another result from the same inputs.
const FORMAT: &str = "1";

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) image: PathBuf,
    modules: PathBuf,
}

/// Fetches the kernel of `suite`.
pub(super) fn fetch(cache: &Cache, suite: &str) -> Result<Kernel> {
    // The package that holds the kernel has its version in its name; the package that depends on it
    // always has the same name.
    let extracted = apt::fetch(
        cache,
        &Request {
            suite,
            packages: &[PACKAGE],
            dependencies: Dependencies::Follow,
        },
    )?;
    let boot = extracted.root.join("boot");
    let names = fs::read_dir(&boot).with_context(|| format!("list {}", boot.display()))?;
    let mut releases = names.flatten().filter_map(|entry| {
        entry
            .file_name()
            .to_str()?
            .strip_prefix("vmlinuz-")
            .map(str::to_owned)
    });
    let (Some(release), None) = (releases.next(), releases.next()) else {
        bail!("{} does not hold one kernel", boot.display())
    };
    let modules = extracted.root.join("lib/modules").join(&release);
    Ok(Kernel {
        image: boot.join(format!("vmlinuz-{release}")),
        modules,
    })
}

/// Returns the initial file system.
pub(super) fn initial(cache: &Cache, suite: &str, kernel: &Kernel) -> Result<PathBuf> {
    let shell = apt::fetch(
        cache,
        &Request {
            suite,
            packages: &["busybox-static"],
            dependencies: Dependencies::Leave,
        },
    )?;
    let shell = shell.root.join("bin/busybox");
    let paths = [&shell, &kernel.modules].map(|path| path.display().to_string());
    let inputs = [FORMAT, INIT]
        .into_iter()
        .chain(MODULES.iter().copied())
        .chain(paths.iter().map(String::as_str));
    let place = cache.entry("vm-initial", &Key::of(inputs), |draft| {
        requirements::install(&[Need {
            package: "cpio",
            provides: "cpio",
        }])?;
        let tree = draft.join("tree");
        let names = fill(&tree, &shell, kernel)?;
        let archive = Run::new("cpio")
            .args(["--create", "--format=newc", "--quiet", "--owner=+0:+0"])
            .current_dir(&tree);
        let output = archive.input(names.join("\n")).output()?;
        ensure!(
            output.status.success(),
            "pack the first file system: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::write(draft.join("initial"), output.stdout).context("write the first file system")?;
        fs::remove_dir_all(&tree).with_context(|| format!("remove {}", tree.display()))
    })?;
    Ok(place.join("initial"))
}

/// Lays out the file system in `tree`, and returns the names of all its entries, folders first.
fn fill(tree: &Path, shell: &Path, kernel: &Kernel) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in ["bin", "proc", "sys", "dev", "new", "modules"] {
        fs::create_dir_all(tree.join(folder))
            .with_context(|| format!("make the first file system's {folder}"))?;
        names.push(folder.to_owned());
    }
    copy(shell, &tree.join("bin/busybox"))?;
    names.push("bin/busybox".to_owned());
    let built_in = fs::read_to_string(kernel.modules.join("modules.builtin"))
        .context("read which modules are part of the kernel")?;
    let mut loaded = Vec::new();
    for name in MODULES {
        let file = format!("{name}.ko");
        if built_in
            .lines()
            .any(|line| line.rsplit('/').next() == Some(file.as_str()))
        {
            continue;
        }
        let found = find(&kernel.modules.join("kernel"), &file)?;
        let found =
            found.with_context(|| format!("{} has no module {name}", kernel.modules.display()))?;
        copy(&found, &tree.join("modules").join(&file))?;
        names.push(format!("modules/{file}"));
        loaded.push(*name);
    }
    let init = tree.join("init");
    fs::write(&init, INIT.replace(NAMES, &loaded.join(" ")))
        .with_context(|| format!("write {}", init.display()))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("set the rights of {}", init.display()))?;
    names.push("init".to_owned());
    Ok(names)
}

/// Finds the file of this name below `folder`.
fn find(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry
            .with_context(|| format!("list {}", folder.display()))?
            .path();
        let found = if path.is_dir() {
            find(&path, name)?
        } else {
            path.ends_with(name).then_some(path)
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("copy {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_in_any_folder_and_built_in_ones_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let modules = folder.path().join("modules");
        for (number, name) in MODULES.iter().enumerate().skip(1) {
            let place = modules.join(format!("kernel/a{number}/b"));
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join(format!("{name}.ko")), name).unwrap();
        }
        fs::write(
            modules.join("modules.builtin"),
            format!("kernel/x/{}.ko\n", MODULES[0]),
        )
        .unwrap();
        let shell = folder.path().join("shell");
        fs::write(&shell, "").unwrap();
        let tree = folder.path().join("tree");
        let names = fill(
            &tree,
            &shell,
            &Kernel {
                image: PathBuf::new(),
                modules,
            },
        )
        .unwrap();
        assert!(
            names.iter().all(|name| tree.join(name).exists()),
            "{names:?}"
        );
        let loaded = format!("for name in {};", MODULES[1..].join(" "));
        assert!(
            fs::read_to_string(tree.join("init"))
                .unwrap()
                .contains(&loaded)
        );
    }
}
