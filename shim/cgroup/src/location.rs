//! The location of a container's cgroup, parsed from `linux.cgroupsPath`.

use std::path::{Component, Path, PathBuf};

use crate::CgroupError;

#[cfg(test)]
mod tests;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// The path below the mount points, without a leading slash.
    pub(crate) path: PathBuf,
    /// The scope, with the systemd driver.
    pub(crate) scope: Option<Scope>,
}

/// A systemd scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The unit's name: `cri-containerd-1234.scope`.
    pub(crate) unit: String,
    /// Its slice: `kubepods-burstable.slice`.
    pub(crate) slice: String,
}

/// The slice of system services, for a scope that names none.
const DEFAULT_SLICE: &str = "system.slice";
/// The suffix of a slice's name.
const SLICE: &str = ".slice";

impl Location {
    /// Parses a path. The spec leaves the meaning of a relative one to the runtime: it is below the
    /// mount points, like an absolute one.
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

    /// Parses `slice:prefix:name`, located below the root of systemd's units.
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
        if !format!("{prefix}{name}").chars().all(is_unit_name_char) {
            return Err(problem(
                "has characters that are not valid in a unit's name",
            ));
        }
        let slice = if slice.is_empty() {
            DEFAULT_SLICE
        } else {
            slice
        };
        let below = slice_folder(slice).ok_or_else(|| problem("does not name a slice"))?;
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

/// Returns whether a unit's name may contain the character (systemd.unit(5)).
fn is_unit_name_char(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || ":-_.\\@".contains(letter)
}

/// Returns the folder of a slice: a dash is a level (systemd.slice(5)), `a-b.slice` is
/// `a.slice/a-b.slice`.
fn slice_folder(slice: &str) -> Option<PathBuf> {
    let name = slice.strip_suffix(SLICE)?;
    if name == "-" {
        return Some(PathBuf::new());
    }
    let mut path = PathBuf::new();
    let mut so_far = String::new();
    for part in name.split('-') {
        if part.is_empty() || !part.chars().all(is_unit_name_char) {
            return None;
        }
        so_far.push_str(part);
        path.push(format!("{so_far}{SLICE}"));
        so_far.push('-');
    }
    Some(path)
}

/// Returns the root of systemd's units, from `/proc/1/cgroup`: systemd itself is in its
/// `init.scope`. If PID 1 is elsewhere, it is the hierarchy's root.
pub(crate) fn control_group(memberships: &str) -> PathBuf {
    let paths = memberships
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let systemds = paths.filter(|(controllers, _)| {
        controllers.is_empty() || *controllers == crate::hierarchies::SYSTEMD
    });
    let roots = systemds.filter_map(|(_, path)| path.strip_suffix("/init.scope"));
    // v1 has both lines; they agree where systemd uses both.
    roots
        .map(|root| Path::new("/").join(root.trim_start_matches('/')))
        .next()
        .unwrap_or_else(|| PathBuf::from("/"))
}
