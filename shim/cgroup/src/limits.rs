//! `linux.resources` as writes to files of a cgroup.
//!
//! [`v1`] and [`v2`] decide the writes from the spec and from the current content of the cgroup's
//! files; [`apply`] executes them. Two rules are runc's and hold for both versions: a value of 0
//! means "not given" where 0 cannot be meant (a limit, a weight, a period), and `memory.kernel`,
//! which kernels do not support any more, is ignored.

use std::fs::File;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use crate::hierarchies::Tree;
use crate::{Cgroup, CgroupError, Version, files};

mod convert;
mod cpu;
mod devices;
mod draft;
mod fields;
mod memory;
mod v1;
mod v2;

use draft::CurrentFiles;
pub(crate) use draft::{Occasion, Setting};

#[cfg(test)]
mod tests;

/// Sets the limits that `resources` has, in an existing cgroup.
pub(crate) fn apply(
    cgroup: &Cgroup,
    resources: &LinuxResources,
    occasion: Occasion,
) -> Result<(), CgroupError> {
    write(cgroup, settings(cgroup, resources, occasion)?)
}

/// Returns the writes for the limits that `resources` has.
pub(crate) fn settings(
    cgroup: &Cgroup,
    resources: &LinuxResources,
    occasion: Occasion,
) -> Result<Vec<Setting>, CgroupError> {
    match cgroup.hierarchies().version() {
        Version::V1 => v1::settings(resources, cgroup, occasion),
        Version::V2 => v2::settings(resources, cgroup),
    }
}

/// Executes the writes in order, until one fails.
pub(crate) fn write(cgroup: &Cgroup, settings: Vec<Setting>) -> Result<(), CgroupError> {
    if settings.is_empty() {
        return Ok(());
    }
    let enabled = Enabled::of(cgroup)?;
    let mut last: Option<(PathBuf, File)> = None;
    for Setting {
        field,
        controller,
        file,
        value,
    } in settings
    {
        let folder =
            enabled
                .folder(cgroup, &controller)
                .ok_or_else(|| CgroupError::MissingController {
                    field: field.to_string(),
                    controller: controller.to_string(),
                })?;
        let path = folder.join(&*file);
        // Device rules are a dozen writes to two files.
        let mut opened = match last.take() {
            Some((known, opened)) if known == path => opened,
            _ => open(&path, &folder, &field)?,
        };
        files::put(&mut opened, &path, &value, &field)?;
        last = Some((path, opened));
    }
    Ok(())
}

/// Opens a limit's file. If it is missing, the kernel does not support the limit.
fn open(path: &Path, folder: &Path, field: &str) -> Result<File, CgroupError> {
    files::open(path).map_err(|error| {
        if error.is_gone() && folder.is_dir() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            return CgroupError::refused(field, format!("this kernel has no {name}"));
        }
        error
    })
}

/// The controllers that are enabled for a cgroup.
enum Enabled {
    /// cgroup v1: those that are mounted.
    Mounted,
    /// cgroup v2: those that its parent enables.
    Passed(Vec<String>),
}

impl Enabled {
    fn of(cgroup: &Cgroup) -> Result<Self, CgroupError> {
        Ok(match cgroup.tree() {
            Tree::V1(_) => Self::Mounted,
            Tree::V2(_) => {
                let listed = files::read(&cgroup.main_folder().join("cgroup.controllers"))?;
                Self::Passed(listed.split_whitespace().map(str::to_owned).collect())
            }
        })
    }

    fn folder(&self, cgroup: &Cgroup, controller: &str) -> Option<PathBuf> {
        match self {
            Self::Passed(controllers)
                if controller != v2::CORE && !controllers.iter().any(|one| one == controller) =>
            {
                None
            }
            Self::Mounted | Self::Passed(_) => cgroup.folder_of(controller),
        }
    }
}

impl CurrentFiles for Cgroup {
    fn text(&self, controller: &str, file: &str) -> Result<Option<String>, CgroupError> {
        self.folder_of(controller)
            .map_or(Ok(None), |folder| files::read_if_there(&folder.join(file)))
    }
}
