//! The cgroup of a container that is being created.

use std::ops::Deref;
use std::sync::Arc;

use container_cgroup::Cgroup;
use runtime_options::RuntimeOptions;

use crate::bundle::Bundle;
use crate::error::CreateError;
use crate::host::Host;

/// The cgroup of a container that is being created. Dropping it removes it unless it is kept.
pub(super) struct NewCgroup(Option<Cgroup>);

impl NewCgroup {
    pub(super) fn make(
        host: &Arc<Host>,
        bundle: &Bundle,
        options: &RuntimeOptions,
    ) -> Result<Self, CreateError> {
        let resources = bundle
            .spec()
            .linux()
            .as_ref()
            .and_then(|linux| linux.resources().as_ref());
        Ok(Self(Some(Cgroup::create(
            &host.hierarchies,
            options.cgroup_driver,
            &bundle.cgroups_path(),
            resources,
        )?)))
    }

    pub(super) fn keep(mut self) -> Cgroup {
        self.0.take().expect("only this and the drop take it")
    }
}

impl Deref for NewCgroup {
    type Target = Cgroup;

    fn deref(&self) -> &Cgroup {
        self.0
            .as_ref()
            .expect("only the methods that consume this take it")
    }
}

impl Drop for NewCgroup {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(|cgroup| cgroup.remove()) {
            tracing::warn!(
                "cannot remove the cgroup of a container that could not be created: {error}"
            );
        }
    }
}
