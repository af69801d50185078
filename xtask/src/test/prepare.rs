//! What the node and cluster classes need, made once and written down for their test programs.

use std::path::{Path, PathBuf};

use anyhow::Result;
use testbed::cache::Cache;
use testbed::containerd::Install;
use testbed::prepared::{Guests, Prepared};
use testbed::{host, toolchain};

use super::class::Class;
use crate::{bundle, setup};

/// Whether a class can run on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    /// The machine lacks something that no installation brings.
    Impossible(String),
}

/// What was made so far.
#[derive(Debug)]
pub(super) struct Means<'a> {
    cache: &'a Cache,
    place: PathBuf,
    file: Option<PathBuf>,
}

impl<'a> Means<'a> {
    /// Nothing yet; it will be written down in `folder`.
    pub(super) fn new(cache: &'a Cache, folder: &Path) -> Self {
        Self { cache, place: folder.join("prepared.json"), file: None }
    }

    /// The file for the test programs, once there is one.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Makes what `class` needs and is not there yet.
    pub(super) fn prepare_for(&mut self, class: Class) -> Result<Readiness> {
        if matches!(class, Class::Unit | Class::Component) {
            return Ok(Readiness::Ready);
        }
        if let Err(reason) = host::require_root_and_kernel(&format!("test --class {class}")) {
            return Ok(Readiness::Impossible(format!("{reason:#}")));
        }
        if self.file.is_none() {
            let bundle = bundle::build(self.cache)?.root;
            setup::build_create_container()?;
            let prepared = Prepared {
                bundle,
                containerds: vec![Install::current(self.cache)?, Install::debian(self.cache)?],
                guests: Guests {
                    probe: toolchain::c_guest(self.cache, &test_guests::probe_source())?,
                    native: toolchain::native(self.cache, &test_guests::native_source())?,
                },
            };
            prepared.write(&self.place)?;
            self.file = Some(self.place.clone());
        }
        Ok(Readiness::Ready)
    }
}
