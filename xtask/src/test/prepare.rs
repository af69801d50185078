//! Prerequisites of the node, vm and cluster classes, made once and recorded for their test
//! programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use testbed::cache::Cache;
use testbed::containerd::Install;
use testbed::prepared::{Guests, Prepared, Vm};
use testbed::versions::Versions;
use testbed::{go, requirements, toolchain, vm};

use super::class::Class;
use crate::{bundle, images, setup};

/// Whether a class can run on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    /// The machine lacks something that cannot be installed.
    Impossible(String),
}

/// The prerequisites made so far.
#[derive(Debug)]
pub(super) struct Prerequisites<'a> {
    cache: &'a Cache,
    place: PathBuf,
    prepared: Option<Prepared>,
}

impl<'a> Prerequisites<'a> {
    /// Starts without any; the record will be in `folder`.
    pub(super) fn new(cache: &'a Cache, folder: &Path) -> Self {
        Self {
            cache,
            place: folder.join("prepared.json"),
            prepared: None,
        }
    }

    /// Returns the file for the test programs, if there is one.
    pub(super) fn file(&self) -> Option<&Path> {
        self.prepared.as_ref().map(|_| self.place.as_path())
    }

    /// Makes the missing prerequisites of `class`.
    pub(super) fn prepare_for(&mut self, class: Class) -> Result<Readiness> {
        if matches!(class, Class::Unit | Class::Component) {
            return Ok(Readiness::Ready);
        }
        if let Err(reason) = requirements::require_root_and_kernel(&format!("test --class {class}"))
        {
            return Ok(Readiness::Impossible(format!("{reason:#}")));
        }
        // Before everything that takes long.
        let machine = match class {
            Class::Vm => match vm::Machine::prepare(self.cache) {
                Ok(machine) => Some(machine),
                Err(reason) => {
                    return Ok(Readiness::Impossible(format!(
                        "no machine can be emulated: {reason:#}"
                    )));
                }
            },
            _ => None,
        };
        if self.prepared.is_none() {
            let bundle = bundle::build(self.cache)?;
            setup::executable("create-container")?;
            let prepared = Prepared {
                archive: images::archive(&bundle, &bundle.version)?.file,
                next_archive: images::archive(&bundle, &format!("{}-next", bundle.version))?.file,
                images: None,
                bundle: bundle.root,
                containerds: vec![Install::current(self.cache)?, Install::debian(self.cache)?],
                daemons: daemons(self.cache)?,
                guests: Guests {
                    probe: toolchain::c_guest(self.cache, &test_guests::probe_source())?,
                    native: toolchain::native(self.cache, &test_guests::native_source())?,
                },
                vm: None,
            };
            self.prepared = Some(prepared);
        }
        let Some(prepared) = &mut self.prepared else {
            return Ok(Readiness::Ready);
        };
        if class == Class::Cluster && prepared.images.is_none() {
            prepared.images = Some(images::prepare(self.cache)?);
        }
        if let Some(machine) = machine {
            prepared.vm = Some(Vm {
                machine,
                inside: bundle::executables::fully_static("vm-inside", "vm-inside")?,
            });
        }
        prepared.write(&self.place)?;
        Ok(Readiness::Ready)
    }
}

/// Returns each containerd's program for tests of configurations only.
fn daemons(cache: &Cache) -> Result<BTreeMap<String, PathBuf>> {
    let versions = Versions::pinned()?.containerd.configured;
    versions
        .into_iter()
        .map(|version| go::containerd_daemon(cache, &version).map(|program| (version, program)))
        .collect()
}
