//! Creation of a cgroup.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::{Cgroup, processes};
use crate::hierarchies::Tree;
use crate::limits::{self, Occasion};
use crate::{CgroupError, files};

/// The controllers that a cgroup enables for its children.
const SUBTREE: &str = "cgroup.subtree_control";
/// The controllers that are enabled for a cgroup.
const CONTROLLERS: &str = "cgroup.controllers";
/// How often to create a parent again that was removed right after its creation, by another
/// creation that failed at that moment.
const ATTEMPTS: u32 = 16;
/// Files of v1 that must be set before a process can join and are not inherit_cpuset.
const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Creates the folders of the cgroup and sets its limits. Removes what it created after an error.
pub(super) fn folders_with_limits(
    cgroup: &Cgroup,
    resources: Option<&LinuxResources>,
) -> Result<(), CgroupError> {
    let mut made = Created::default();
    let done = folders(cgroup, &mut made).and_then(|()| match resources {
        Some(resources) => limits::apply(cgroup, resources, Occasion::Creation),
        None => Ok(()),
    });
    if done.is_err() {
        made.remove();
    }
    done
}

/// Creates the missing folders: systemd creates some of a scope's on v1.
pub(crate) fn missing_folders(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let mut made = Created::default();
    let done = in_tree(cgroup, &mut made);
    if done.is_err() {
        made.remove();
    }
    done
}

fn folders(cgroup: &Cgroup, made: &mut Created) -> Result<(), CgroupError> {
    in_tree(cgroup, made)?;
    for folder in cgroup.folders() {
        if !made.0.contains(&folder) {
            check_empty(&folder)?;
        }
    }
    Ok(())
}

fn in_tree(cgroup: &Cgroup, made: &mut Created) -> Result<(), CgroupError> {
    let path = &cgroup.location.path;
    match cgroup.tree() {
        Tree::V1(hierarchies) => {
            for hierarchy in hierarchies {
                let folder = hierarchy.mount.join(path);
                made.folder(&folder)?;
                if hierarchy.has("cpuset") {
                    for file in CPUSET {
                        inherit_cpuset(&folder, &hierarchy.mount, file)?;
                    }
                }
            }
            Ok(())
        }
        Tree::V2(root) => {
            made.folder(&root.join(path))?;
            enable_controllers(root, path)
        }
    }
}

/// The created folders, in order of creation.
#[derive(Default)]
struct Created(Vec<PathBuf>);

impl Created {
    /// Creates a folder and its missing parents. An existing folder is not an error.
    fn folder(&mut self, folder: &Path) -> Result<(), CgroupError> {
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            match (fs::create_dir(folder), folder.parent()) {
                (Ok(()), _) => {
                    self.0.push(folder.to_owned());
                    return Ok(());
                }
                (Err(error), _) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
                // Other creations make the same parents, and remove them when they fail, at the
                // same time.
                (Err(error), Some(parent))
                    if error.kind() == io::ErrorKind::NotFound && attempts > 0 =>
                {
                    self.folder(parent)?;
                }
                (Err(error), _) => return Err(CgroupError::io("make", folder)(error)),
            }
        }
    }

    fn remove(&self) {
        for folder in self.0.iter().rev() {
            if let Err(error) = fs::remove_dir(folder) {
                tracing::warn!(cgroup = %folder.display(), %error, "cannot remove a cgroup \
                 after its creation failed");
            }
        }
    }
}

/// Checks that an existing cgroup is empty. An empty one is a leftover of an earlier container, and
/// is reused.
fn check_empty(folder: &Path) -> Result<(), CgroupError> {
    let processes = processes::below(folder)?;
    if processes.is_empty() {
        Ok(())
    } else {
        Err(CgroupError::InUse {
            folder: folder.to_owned(),
            processes,
        })
    }
}

/// Fills one of [`CPUSET`] with the parent's value, and the parent's first if that is empty.
fn inherit_cpuset(folder: &Path, mount: &Path, file: &str) -> Result<String, CgroupError> {
    let path = folder.join(file);
    let own = files::read(&path)?;
    match folder.parent() {
        Some(parent) if own.trim().is_empty() && folder != mount => {
            let from_parent = inherit_cpuset(parent, mount, file)?;
            files::write(&path, from_parent.trim(), "what a cpuset must have")?;
            Ok(from_parent)
        }
        _ => Ok(own),
    }
}

/// Enables every controller of the root in every parent, as runc does: stats need them too, not
/// only limits. A controller that cannot be enabled is an error only when a limit needs it.
fn enable_controllers(root: &Path, path: &Path) -> Result<(), CgroupError> {
    let wanted = files::read(&root.join(CONTROLLERS))?;
    let parents = path.parent().unwrap_or(Path::new(""));
    let missing_at = |folder: &Path, wanted: &str| {
        Ok::<_, CgroupError>(missing(wanted, &files::read(&folder.join(SUBTREE))?))
    };
    // Another container of the pod has nearly always done it.
    if missing_at(&root.join(parents), &wanted)?.is_empty() {
        return Ok(());
    }
    let mut folder = root.to_owned();
    enable(&folder, &missing_at(&folder, &wanted)?);
    for part in parents {
        folder.push(part);
        let available = files::read(&folder.join(CONTROLLERS))?;
        enable(&folder, &missing_at(&folder, &available)?);
    }
    Ok(())
}

/// Lists the wanted controllers that are not enabled.
fn missing(wanted: &str, passed: &str) -> Vec<String> {
    wanted
        .split_whitespace()
        .filter(|one| !passed.split_whitespace().any(|other| other == *one))
        .map(str::to_owned)
        .collect()
}

/// Enables controllers one by one: one that cannot be enabled (the cpu controller, while real-time
/// processes run outside) must not keep the others disabled.
fn enable(folder: &Path, controllers: &[String]) {
    for controller in controllers {
        if let Err(error) = files::write(
            &folder.join(SUBTREE),
            &format!("+{controller}"),
            "a controller of the container",
        ) {
            let cause = std::error::Error::source(&error)
                .map(ToString::to_string)
                .unwrap_or_default();
            tracing::debug!(cgroup = %folder.display(), controller, cause, "cannot enable \
                 a cgroup controller for containers");
        }
    }
}
