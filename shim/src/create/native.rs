//! Creation of a container that runs a Linux program, by libcontainer.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use container_cgroup::Cgroup;
use container_io::Io;
use guest_sandbox::plan::Refused;
use native_container::{NewContainer, Processes};
use oci_spec::runtime::LinuxNamespaceType;
use runtime_options::CgroupDriver;

use super::NewTask;
use crate::bundle::Bundle;
use crate::error::CreateError;
use crate::host::Host;
use crate::mounted;
use crate::process::{self, Process};
use crate::streams::{self, for_native};
use crate::task::{Body, Task};

/// Creates the container, with the root file system `root`. Blocks.
pub(super) fn create(
    host: &Arc<Host>,
    bundle: &Bundle,
    new: NewTask,
    root: &OwnedFd,
) -> Result<Task, CreateError> {
    refuse_user_namespace(bundle)?;
    let place = bundle.rootfs();
    // Without mounts the root is a folder that containerd's client owns.
    let is_ours = !new.rootfs.is_empty();
    if is_ours {
        mounted::attach(root, place.as_path())?;
    }
    let waiting = set_up(host, bundle, &new);
    let Waiting {
        process,
        pidfd,
        cgroup,
        io,
    } = waiting.inspect_err(|_| {
        if is_ours {
            mounted::detach(place.as_path());
        }
    })?;
    let init = Process::new(&new.id, "", new.streams);
    init.attach(process.pid(), Some(pidfd), Some(io));
    Ok(Task::new(
        new.id,
        bundle,
        Body::Native(process),
        cgroup,
        init,
    ))
}

/// Refuses a user namespace: libcontainer would keep the node's owners of volumes.
fn refuse_user_namespace(bundle: &Bundle) -> Result<(), CreateError> {
    let namespaces = bundle
        .spec()
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_ref());
    let index = namespaces
        .into_iter()
        .flatten()
        .position(|namespace| namespace.typ() == LinuxNamespaceType::User);
    index.map_or(Ok(()), |index| {
        let reason = "a Linux program of a pod with hostUsers: false is not run, guests alone are: \
                      leave hostUsers out, or run the program in a pod of its own";
        Err(Refused {
            field: format!("linux.namespaces[{index}]"),
            reason: reason.to_owned(),
        }
        .into())
    })
}

/// A Linux program that waits for its start.
struct Waiting {
    process: native_container::Container,
    pidfd: Arc<OwnedFd>,
    cgroup: Cgroup,
    io: Io,
}

fn set_up(host: &Arc<Host>, bundle: &Bundle, new: &NewTask) -> Result<Waiting, CreateError> {
    let (stdio, io) = streams::open(&new.streams, bundle.spec().process().as_ref())?;
    let cgroup = Cgroup::open(
        &host.hierarchies,
        new.options.cgroup_driver,
        &bundle.cgroups_path(),
    )?;
    let state = host.records.folder(&host.namespace, &new.id)?;
    let systemd = new.options.cgroup_driver == CgroupDriver::Systemd;
    let processes = processes(host, bundle);
    let (id, folder, stdio) = (
        new.id.clone(),
        bundle.folder().to_owned(),
        for_native(stdio),
    );
    let wanted = NewContainer {
        id,
        bundle: folder,
        state,
        processes,
        systemd,
        stdio,
    };
    let process = native_container::create(&host.forkers, wanted)?;
    let pidfd = process::share_pidfd(process.pidfd()).inspect_err(|_| {
        if let Err(error) = process.delete() {
            tracing::warn!("cannot remove a container that could not be created: {error}");
        }
    })?;
    Ok(Waiting {
        process,
        pidfd,
        cgroup,
        io,
    })
}

/// Returns the pid namespace that the containers of the pod see.
fn processes(host: &Host, bundle: &Bundle) -> Processes {
    match bundle
        .sandbox()
        .and_then(|sandbox| host.task(sandbox).ok())
        .as_deref()
        .map(|task| &task.body)
    {
        Some(Body::Pod(pod)) => pod.processes,
        _ => Processes::Own,
    }
}
