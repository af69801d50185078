//! `linux.resources` as writes to files of a cgroup.
//!
//! What is written where is decided in [`v1`] and [`v2`] from the spec and from what the cgroup's
//! files say at the moment; [`apply`] then writes it. Two rules hold for both versions, and are
//! runc's: a value of 0 means that nothing was said, where 0 cannot be meant (a limit, a weight, a
//! period), and `memory.kernel`, which kernels do not take any more, is ignored.

use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use crate::hierarchies::Tree;
use crate::{Cgroup, CgroupError, Version, files};

mod convert;
mod cpu;
mod devices;
mod memory;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

/// What limits are set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// A cgroup without processes, made just now.
    Creation,
    /// One that may be in use.
    Update,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The field of the OCI spec that asks for it.
    pub(crate) field: Cow<'static, str>,
    /// The controller whose file it is.
    pub(crate) controller: Cow<'static, str>,
    /// The file in the cgroup's folder.
    pub(crate) file: Cow<'static, str>,
    pub(crate) value: String,
}

/// Files of the cgroup, as they are before anything is written.
trait Now {
    /// What a controller's file holds; nothing if the kernel has no such file.
    fn text(&self, controller: &str, file: &str) -> Result<Option<String>, CgroupError>;

    fn has(&self, controller: &str, file: &str) -> Result<bool, CgroupError> {
        Ok(self.text(controller, file)?.is_some())
    }

    fn number(&self, controller: &str, file: &str) -> Result<Option<u64>, CgroupError> {
        Ok(self
            .text(controller, file)?
            .as_deref()
            .and_then(files::parse))
    }
}

/// The writes so far, in their order.
#[derive(Debug, Default)]
struct Draft(Vec<Setting>);

impl Draft {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "most values are numbers, and all are turned into text here"
    )]
    fn set(
        &mut self,
        field: impl Into<Cow<'static, str>>,
        controller: impl Into<Cow<'static, str>>,
        file: impl Into<Cow<'static, str>>,
        value: impl ToString,
    ) {
        let setting = Setting {
            field: field.into(),
            controller: controller.into(),
            file: file.into(),
            value: value.to_string(),
        };
        self.0.push(setting);
    }
}

/// A value that says something: 0 is what a client that fills in structures sends for nothing.
fn given<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

/// Sets the limits that `resources` has. The cgroup must be there.
pub(crate) fn apply(
    cgroup: &Cgroup,
    resources: &LinuxResources,
    occasion: Occasion,
) -> Result<(), CgroupError> {
    write(cgroup, settings(cgroup, resources, occasion)?)
}

/// What is to be written for the limits that `resources` has.
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

/// Writes in this order, and stops at what cannot be written.
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
        // Rules for devices are a dozen writes to two files.
        let mut opened = match last.take() {
            Some((known, opened)) if known == path => opened,
            _ => open(&path, &folder, &field)?,
        };
        files::put(&mut opened, &path, &value, &field)?;
        last = Some((path, opened));
    }
    Ok(())
}

/// Opens a limit's file. A file that a cgroup does not have is a limit that the kernel does not
/// have.
fn open(path: &Path, folder: &Path, field: &str) -> Result<File, CgroupError> {
    files::open(path).map_err(|error| {
        if error.is_gone() && folder.is_dir() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            return CgroupError::refused(field, format!("this kernel has no {name}"));
        }
        error
    })
}

/// The controllers that a cgroup has.
enum Enabled {
    /// cgroup v1: those that are mounted.
    Mounted,
    /// cgroup v2: those that its parent passes down.
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

impl Now for Cgroup {
    fn text(&self, controller: &str, file: &str) -> Result<Option<String>, CgroupError> {
        self.folder_of(controller)
            .map_or(Ok(None), |folder| files::read_if_there(&folder.join(file)))
    }
}
