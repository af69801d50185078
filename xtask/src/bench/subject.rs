//! Who is measured: executables that were found or built, and what they run.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use testbed::cache::Cache;
use testbed::command::Run;
use testbed::containerd::Install;

use super::report::{Part, Who};
use crate::bundle::{self, LAUNCHER};

/// One runtime.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) who: Who,
    /// The shim's executable.
    pub(super) shim: PathBuf,
}

impl Subject {
    /// The folder of the runtime bundle that its shim lies in; none for runc.
    pub(super) fn bundle(&self) -> Option<&Path> {
        match self.who {
            Who::Runc => None,
            Who::Ours => self.shim.ancestors().nth(2),
        }
    }

    /// The name by which containers ask for it: containerd takes a path as well.
    pub(super) fn runtime(&self) -> String {
        match self.who {
            Who::Runc => "io.containerd.runc.v2".to_owned(),
            Who::Ours => self.shim.display().to_string(),
        }
    }
}

/// Everybody who takes part, and what a report says of everybody who was asked for.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) subjects: Vec<Subject>,
    pub(super) parts: Vec<Part>,
}

impl Field {
    /// Finds or builds `whos`; ours is the bundle in `ours`, or this checkout's.
    pub(super) fn assemble(cache: &Cache, install: &Install, whos: &[Who], ours: Option<&Path>) -> Result<Self> {
        let mut field = Self { subjects: Vec::new(), parts: Vec::new() };
        for &who in whos {
            let (shim, what): (PathBuf, String) = match who {
                Who::Runc => {
                    let version = Run::new(install.runc.join("runc")).arg("--version").text()?;
                    let version = version.lines().next().unwrap_or_default().to_owned();
                    (
                        install.bin.join("containerd-shim-runc-v2"),
                        format!("containerd-shim-runc-v2 of containerd {}, {version}", install.version),
                    )
                }
                Who::Ours => {
                    let root = match ours {
                        Some(root) => root.canonicalize().with_context(|| format!("find {}", root.display()))?,
                        None => bundle::build(cache)?.root,
                    };
                    (root.join("bin").join(LAUNCHER), format!("the runtime bundle {}", bundle::VERSION))
                }
            };
            ensure!(shim.is_file(), "{} is not there: it is {}'s shim", shim.display(), who.name());
            field.subjects.push(Subject { who, shim });
            field.parts.push(Part { who, what });
        }
        Ok(field)
    }
}
