//! Making a cgroup.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::{Cgroup, processes};
use crate::hierarchies::Tree;
use crate::limits::{self, Occasion};
use crate::{CgroupError, files};

/// The controllers that a cgroup passes to those below it.
const SUBTREE: &str = "cgroup.subtree_control";
/// The controllers that a cgroup has.
const CONTROLLERS: &str = "cgroup.controllers";
/// How often a parent may go away again that was just made. Each time somebody else's creation
/// failed at that moment.
const ATTEMPTS: u32 = 16;
/// What a cgroup of v1 must have before a process can join it, and does not inherit.
const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Makes the folders of the cgroup and sets its limits. After an error, what was made is removed
/// again.
pub(super) fn folders_with_limits(
    cgroup: &Cgroup,
    resources: Option<&LinuxResources>,
) -> Result<(), CgroupError> {
    let mut made = Made::default();
    let done = folders(cgroup, &mut made).and_then(|()| match resources {
        Some(resources) => limits::apply(cgroup, resources, Occasion::Creation),
        None => Ok(()),
    });
    if done.is_err() {
        made.remove();
    }
    done
}

/// Makes the folders that are not there: systemd makes some of a scope's on v1.
pub(crate) fn missing_folders(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let mut made = Made::default();
    let done = in_tree(cgroup, &mut made);
    if done.is_err() {
        made.remove();
    }
    done
}

fn folders(cgroup: &Cgroup, made: &mut Made) -> Result<(), CgroupError> {
    in_tree(cgroup, made)?;
    for folder in cgroup.folders() {
        if !made.0.contains(&folder) {
            unused(&folder)?;
        }
    }
    Ok(())
}

fn in_tree(cgroup: &Cgroup, made: &mut Made) -> Result<(), CgroupError> {
    let path = &cgroup.place.path;
    match cgroup.tree() {
        Tree::V1(hierarchies) => {
            for hierarchy in hierarchies {
                let folder = hierarchy.mount.join(path);
                made.folder(&folder)?;
                if hierarchy.has("cpuset") {
                    for file in CPUSET {
                        inherited(&folder, &hierarchy.mount, file)?;
                    }
                }
            }
            Ok(())
        }
        Tree::V2(root) => {
            made.folder(&root.join(path))?;
            pass_controllers(root, path)
        }
    }
}

/// What we have made, in this order.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Made {
    /// Makes a folder, and its parents where they are missing. One that is there is fine.
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
                // Others make the same parents, and take theirs back when they fail, at the same
                // time.
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
                tracing::warn!(cgroup = %folder.display(), %error, "a cgroup that was made in vain \
                                                            stays");
            }
        }
    }
}

/// That nobody is in a cgroup which was there before. An empty one is what a former container left,
/// and is taken over.
fn unused(folder: &Path) -> Result<(), CgroupError> {
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

/// Fills one of [`CPUSET`] with what the parent has, and the parent's before it.
fn inherited(folder: &Path, mount: &Path, file: &str) -> Result<String, CgroupError> {
    let path = folder.join(file);
    let own = files::read(&path)?;
    match folder.parent() {
        Some(parent) if own.trim().is_empty() && folder != mount => {
            let from_parent = inherited(parent, mount, file)?;
            files::write(&path, from_parent.trim(), "what a cpuset must have")?;
            Ok(from_parent)
        }
        _ => Ok(own),
    }
}

/// Has every parent pass every controller of the root down, as runc does: stats need them, not
/// limits alone. A controller that a parent does not pass is an error when a limit needs it.
fn pass_controllers(root: &Path, path: &Path) -> Result<(), CgroupError> {
    let wanted = files::read(&root.join(CONTROLLERS))?;
    let parents = path.parent().unwrap_or(Path::new(""));
    let missing_at = |folder: &Path, wanted: &str| {
        Ok::<_, CgroupError>(missing(wanted, &files::read(&folder.join(SUBTREE))?))
    };
    // Nearly always somebody has done it for the pod.
    if missing_at(&root.join(parents), &wanted)?.is_empty() {
        return Ok(());
    }
    let mut folder = root.to_owned();
    pass(&folder, &missing_at(&folder, &wanted)?);
    for part in parents {
        folder.push(part);
        let available = files::read(&folder.join(CONTROLLERS))?;
        pass(&folder, &missing_at(&folder, &available)?);
    }
    Ok(())
}

/// The wanted controllers that are not passed.
fn missing(wanted: &str, passed: &str) -> Vec<String> {
    wanted
        .split_whitespace()
        .filter(|one| !passed.split_whitespace().any(|other| other == *one))
        .map(str::to_owned)
        .collect()
}

/// Passes controllers one by one: one that cannot be passed (the cpu controller, while real-time
/// processes run outside) must not keep the others away.
fn pass(folder: &Path, controllers: &[String]) {
    for controller in controllers {
        if let Err(error) = files::write(
            &folder.join(SUBTREE),
            &format!("+{controller}"),
            "a controller of the container",
        ) {
            let cause = std::error::Error::source(&error)
                .map(ToString::to_string)
                .unwrap_or_default();
            tracing::debug!(cgroup = %folder.display(), controller, cause, "a controller is not \
                                                            passed to containers");
        }
    }
}
