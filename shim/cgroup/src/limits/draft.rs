//! Writes to files of a cgroup, and the files' current content, which the writes depend on.

use std::borrow::Cow;

use crate::{CgroupError, files};

/// The reason for setting limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// A new cgroup without processes.
    Creation,
    /// An existing cgroup that may be in use.
    Update,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The field of the OCI spec that requires it.
    pub(crate) field: Cow<'static, str>,
    /// The controller of the file.
    pub(crate) controller: Cow<'static, str>,
    /// The file's name in the cgroup's folder.
    pub(crate) file: Cow<'static, str>,
    pub(crate) value: String,
}

/// The current content of the cgroup's files, before anything is written.
pub(super) trait CurrentFiles {
    /// Returns the content of a controller's file; None if the kernel has no such file.
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

/// The writes so far, in order.
#[derive(Debug, Default)]
pub(super) struct Draft(pub(super) Vec<Setting>);

impl Draft {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "most values are numbers, and all are turned into text here"
    )]
    pub(super) fn set(
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

/// Returns a value that is set: clients that fill in whole structures send 0 for absent fields.
pub(super) fn given<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}
