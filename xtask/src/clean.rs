//! `cargo xtask clean`: removes everything that tasks downloaded and built outside cargo's target
//! folder.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use testbed::cache::Cache;
use testbed::progress::{self, step};
use testbed::teardown;

use crate::setup;

/// Removes what was downloaded and built: the cache folder and `.deps`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args {} = args;
    let alive = teardown::living_runs()?;
    if !alive.is_empty() {
        bail!(
            "still running, and using what would be removed: {}\nend that first (`cargo xtask kind \
             down` for a cluster)",
            alive.join(", ")
        );
    }
    let cache = Cache::open()?;
    let deps = setup::repository().join(".deps");
    for folder in [cache.root(), &deps] {
        if !folder.exists() {
            progress::print_line(format_args!("{} does not exist", folder.display()));
            continue;
        }
        let size = size(folder)?;
        step(
            format_args!("removed {} ({})", folder.display(), readable(size)),
            || remove(folder),
        )?;
    }
    Ok(())
}

/// Removes the folder. Go makes its module cache read-only, which hinders only users other than
/// root.
fn remove(folder: &Path) -> Result<()> {
    make_writable(folder)?;
    fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))
}

fn make_writable(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let facts =
        fs::symlink_metadata(folder).with_context(|| format!("look at {}", folder.display()))?;
    if !facts.is_dir() {
        return Ok(());
    }
    if facts.permissions().mode() & 0o700 != 0o700 {
        let mode = fs::Permissions::from_mode(facts.permissions().mode() | 0o700);
        fs::set_permissions(folder, mode)
            .with_context(|| format!("make {} writable", folder.display()))?;
    }
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry.with_context(|| format!("list {}", folder.display()))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

/// Returns the bytes on disk of the folder's content; links are not followed.
fn size(folder: &Path) -> Result<u64> {
    let facts =
        fs::symlink_metadata(folder).with_context(|| format!("look at {}", folder.display()))?;
    let mut sum = facts.blocks() * 512;
    if facts.is_dir() {
        for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
            sum += size(
                &entry
                    .with_context(|| format!("list {}", folder.display()))?
                    .path(),
            )?;
        }
    }
    Ok(sum)
}

/// Formats bytes with a unit.
fn readable(bytes: u64) -> String {
    let (unit, name) = if bytes >= 1_000_000_000 {
        (1_000_000_000, "GB")
    } else {
        (1_000_000, "MB")
    };
    let tenths = bytes / (unit / 10);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn read_only_folder_is_removed_and_link_targets_are_not() {
        let place = tempfile::tempdir().unwrap();
        let (outside, folder) = (place.path().join("outside"), place.path().join("folder"));
        fs::create_dir_all(folder.join("inner")).unwrap();
        fs::write(&outside, "x").unwrap();
        fs::write(folder.join("inner/file"), "x").unwrap();
        symlink(&outside, folder.join("inner/link")).unwrap();
        fs::set_permissions(folder.join("inner"), fs::Permissions::from_mode(0o500)).unwrap();
        remove(&folder).unwrap();
        assert!(!folder.exists() && outside.exists());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(readable(512_000), "0.5 MB");
        assert_eq!(readable(12_345_678_901), "12.3 GB");
    }
}
