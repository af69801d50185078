//! Where a container's cgroup is: what `linux.cgroupsPath` means.

use std::path::{Component, Path, PathBuf};

use crate::CgroupError;

#[cfg(test)]
mod tests;

/// Who makes the cgroups of containers; containerd's `SystemdCgroup` option says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// We do, as folders.
    Cgroupfs,
    /// systemd does, as scopes.
    Systemd,
}

/// A cgroup's place in every hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Below the mount points, without a leading slash.
    pub(crate) path: PathBuf,
    /// The scope that it is, if systemd makes it.
    pub(crate) scope: Option<Scope>,
}

/// A scope of systemd's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    /// Its unit's name: `cri-containerd-1234.scope`.
    pub(crate) unit: String,
    /// The slice it is in: `kubepods-burstable.slice`.
    pub(crate) slice: String,
}

/// Where system services live: the slice of a scope that names none.
const DEFAULT_SLICE: &str = "system.slice";
/// The ending of a slice's name.
const SLICE: &str = ".slice";

impl Place {
    /// A path. The spec leaves a relative one to the runtime: below the mount points, like an
    /// absolute one.
    pub(crate) fn folder(cgroups_path: &str) -> Result<Self, CgroupError> {
        let problem = |problem| CgroupError::Path {
            path: cgroups_path.to_owned(),
            problem,
        };
        if cgroups_path.contains('\0') {
            return Err(problem("has a zero byte"));
        }
        let mut path = PathBuf::new();
        for component in Path::new(cgroups_path).components() {
            match component {
                Component::Normal(name) => path.push(name),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(problem("leads upwards"));
                }
            }
        }
        if path.as_os_str().is_empty() {
            return Err(problem("names no cgroup below the root"));
        }
        Ok(Self { path, scope: None })
    }

    /// `slice:prefix:name`, below systemd's own root of its units.
    pub(crate) fn scope(cgroups_path: &str, control_group: &Path) -> Result<Self, CgroupError> {
        let problem = |problem| CgroupError::Path {
            path: cgroups_path.to_owned(),
            problem,
        };
        let parts: Vec<&str> = cgroups_path.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return Err(problem("is not of the form slice:prefix:name"));
        };
        if prefix.is_empty() || name.is_empty() {
            return Err(problem("lacks the scope's prefix or name"));
        }
        if name.ends_with(SLICE) {
            return Err(problem(
                "names a slice, which cannot hold a container's processes",
            ));
        }
        if !format!("{prefix}{name}").chars().all(is_of_a_unit_name) {
            return Err(problem("has characters that no unit's name has"));
        }
        let slice = if slice.is_empty() {
            DEFAULT_SLICE
        } else {
            slice
        };
        let below = expanded(slice).ok_or_else(|| problem("names no slice"))?;
        let unit = format!("{prefix}-{name}.scope");
        let root = control_group.strip_prefix("/").unwrap_or(control_group);
        Ok(Self {
            path: root.join(below).join(&unit),
            scope: Some(Scope {
                unit,
                slice: slice.to_owned(),
            }),
        })
    }
}

/// What a unit may be called (systemd.unit(5)).
fn is_of_a_unit_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || ":-_.\\@".contains(letter)
}

/// The folder of a slice: a dash is a level (systemd.slice(5)), `a-b.slice` is `a.slice/a-b.slice`.
fn expanded(slice: &str) -> Option<PathBuf> {
    let name = slice.strip_suffix(SLICE)?;
    if name == "-" {
        return Some(PathBuf::new());
    }
    let mut path = PathBuf::new();
    let mut so_far = String::new();
    for part in name.split('-') {
        if part.is_empty() || !part.chars().all(is_of_a_unit_name) {
            return None;
        }
        so_far.push_str(part);
        path.push(format!("{so_far}{SLICE}"));
        so_far.push('-');
    }
    Some(path)
}

/// systemd's root of its units, from `/proc/1/cgroup`: systemd itself is in the `init.scope` of it.
/// A first process elsewhere says nothing, and then it is the hierarchy's root.
pub(crate) fn control_group(memberships: &str) -> PathBuf {
    let paths = memberships
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let systemds = paths.filter(|(controllers, _)| {
        controllers.is_empty() || *controllers == crate::hierarchies::SYSTEMD
    });
    let roots = systemds.filter_map(|(_, path)| path.strip_suffix("/init.scope"));
    // On v1 both lines are there; they agree where systemd keeps both.
    roots
        .map(|root| Path::new("/").join(root.trim_start_matches('/')))
        .next()
        .unwrap_or_else(|| PathBuf::from("/"))
}
