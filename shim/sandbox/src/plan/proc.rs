//! The `/proc` of Linux programs that `exec` starts in a guest's container. The guest has none:
//! with a `/proc` below its root it could write into the memory of its engine.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use serde::{Deserialize, Serialize};

use super::mounts;

/// Its path.
pub(crate) const PROC: &str = "/proc";

/// A `/proc` in a mount namespace of the program's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proc {
    /// Paths in it to hide.
    pub masked: Vec<PathBuf>,
    /// Paths in it that are made read-only.
    pub readonly: Vec<PathBuf>,
}

impl Proc {
    /// Returns none if the spec does not mount it. `masked` and `readonly` are the whole
    /// container's.
    pub(super) fn of(spec: &Spec, masked: &[PathBuf], readonly: &[PathBuf]) -> Option<Self> {
        let mounted = |mount: &Mount| {
            mount.typ().as_deref() == Some("proc")
                && mounts::within(mount.destination()) == Path::new(PROC)
        };
        spec.mounts()
            .iter()
            .flatten()
            .find(|mount| mounted(mount))?;
        let in_it = |paths: &[PathBuf]| {
            paths
                .iter()
                .filter(|path| path.starts_with(Path::new(PROC)))
                .cloned()
                .collect()
        };
        Some(Self {
            masked: in_it(masked),
            readonly: in_it(readonly),
        })
    }
}
