//! Create: from a bundle to a container whose first process waits to be started.
//!
//! ```text
//! bundle ─► record ─► sandbox container: cgroup, a thread that holds the pod's namespaces
//!                 └─► other: Wasm layer of the image, or else a look-up of the file ──┐
//!                            root, and if it is expected to be a guest:               ├► workload
//!                            plan, cgroup, a process that waits ──────────────────────┘     │
//!                     guest:  streams, the process does what was planned ◄──────────────────┤
//!                     native: root mounted, streams, libcontainer        ◄──────────────────┘
//! ```
//!
//! containerd answers for the image's layers within a millisecond or two, and what most containers
//! need is made meanwhile.
//!
//! The record comes first, so that the launcher can clean up if this process dies at any later
//! point. When a step fails, what came before it is taken back, and the record goes last.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use container_cgroup::{Cgroup, Driver};
use container_io::{Io, Streams};
use guest_sandbox::plan::{Plan, Refused, UserNamespace};
use guest_sandbox::rootfs::{self, Mount};
use guest_sandbox::{ForkedGuest, NewGuest, Pending, SandboxError};
use native_container::{NewContainer, Processes};
use oci_spec::runtime::LinuxNamespaceType;
use pod_sandbox::files::PodFiles;
use pod_sandbox::{NewPod, PodError};
use shim_protocol::options::RuntimeOptions;
use shim_protocol::record::Record;

use crate::bundle::{Bundle, Role};
use crate::engine::Wasm;
use crate::error::CreateError;
use crate::host::Host;
use crate::mounted;
use crate::oom::Loading;
use crate::process::{self, Process};
use crate::program::{Digest, GuestProgram};
use crate::streams::{self, for_guest, for_native};
use crate::task::{Body, GuestBody, PodBody, Task};
use crate::wait::{CREATE_SETUP_TIMEOUT, until_ready};
use crate::wasi::WasiContext;
use crate::workload::hints::{Hint, Key};
use crate::workload::image::wasm_layer;
use crate::workload::lookup::{self, LookupOwner};
use crate::workload::rootfs::planned;
use crate::workload::{self, Entrypoint, GuestModule, Workload};
use cgroup::{NewCgroup, driver};

mod cgroup;

/// What a container is created from, beside its bundle.
#[derive(Debug)]
pub struct NewTask {
    /// Its id.
    pub id: String,
    /// How its root file system is mounted.
    pub rootfs: Vec<Mount>,
    /// The names of its standard streams.
    pub streams: Streams,
    /// The handler's options.
    pub options: RuntimeOptions,
}

/// Makes the container.
///
/// # Errors
/// When it cannot be made; then nothing of it is left.
pub async fn create(
    host: &Arc<Host>,
    mut bundle: Bundle,
    new: NewTask,
) -> Result<Task, CreateError> {
    if let (Role::Container, Some(pod)) = (bundle.role(), bundle.sandbox().map(str::to_owned)) {
        bundle.complete(&PodFiles::below(
            &host.records.folder(&host.namespace, &pod)?,
        ))?;
    }
    bundle.name_launcher(&host.launcher)?;
    let cgroup = Cgroup::open(
        &host.hierarchies,
        driver(new.options),
        &bundle.cgroups_path(),
    )?;
    let folder = host.records.folder(&host.namespace, &new.id)?;
    let rootfs = bundle.folder().join("rootfs");
    let record = Record {
        namespace: host.namespace.clone(),
        id: new.id.clone(),
        host: host.socket.clone(),
        cgroups: cgroup.folders(),
        mounts: vec![rootfs],
        native: Some(folder.join("native")),
    };
    let made = match host.records.write(&record) {
        Err(error) => Err(error.into()),
        Ok(()) => Box::pin(make(host, bundle, new)).await,
    };
    if made.is_err() {
        // The first error is the one to tell; what is left is found by the launcher's delete.
        if let Err(error) = host.records.remove(&record.namespace, &record.id) {
            tracing::warn!("cannot remove {}: {error}", folder.display());
        }
    }
    made
}

async fn make(host: &Arc<Host>, bundle: Bundle, new: NewTask) -> Result<Task, CreateError> {
    match bundle.role() {
        Role::Sandbox => blocking(host, move |host| pod(host, &bundle, new)).await,
        Role::Container => container(host, bundle, new).await,
    }
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(
    host: &Arc<Host>,
    work: impl FnOnce(&Arc<Host>) -> Result<T, CreateError> + Send + 'static,
) -> Result<T, CreateError> {
    let host = Arc::clone(host);
    let done = tokio::task::spawn_blocking(move || work(&host)).await;
    done.map_err(|error| CreateError::Panicked(error.to_string()))?
}

/// The sandbox container of a pod: no root file system, and no process but for a pod with a user
/// namespace.
fn pod(host: &Arc<Host>, bundle: &Bundle, new: NewTask) -> Result<Task, CreateError> {
    let plan = NewPod::from_spec(&new.id, bundle.spec())?;
    let cgroup = NewCgroup::make(host, bundle, new.options)?;
    let pod = pod_sandbox::hold(plan, &host.zygote, &cgroup).map_err(|error| match error {
        // One text for each process that cannot be forked, and what the host does then.
        PodError::Holder(error) => error.into(),
        error => CreateError::from(error),
    })?;
    let pidfd = pod.pidfd().map(process::claim).transpose()?;
    let init = Process::new(&new.id, "", new.streams);
    init.exists(pod.pid(), pidfd, None);
    let body = Body::Pod(PodBody {
        held: Mutex::new(Some(pod)),
        processes: processes_of(bundle),
        options: new.options,
    });
    Ok(Task::new(new.id, bundle, body, cgroup.keep(), init))
}

async fn container(host: &Arc<Host>, bundle: Bundle, new: NewTask) -> Result<Task, CreateError> {
    let (id, bundle) = (new.id.clone(), Arc::new(bundle));
    let of_begin = Arc::clone(&bundle);
    let key = Key::of(&new.rootfs, bundle.command());
    let hint = host.hints.get(key.as_ref(), bundle.command());
    let begun = async {
        let begun = blocking(host, move |host| begin(host, &of_begin, new, hint)).await?;
        let early = if hint.looks_up_early() {
            Some(of_file(host, &bundle, &begun).await)
        } else {
            None
        };
        Ok::<_, CreateError>((begun, early))
    };
    let (begun, layer) = tokio::join!(begun, wasm_layer(&id, &host.store, &host.kept));
    let (begun, early) = begun?;
    let workload = match (layer, early) {
        (Ok(Some(layer)), _) => {
            workload::of_layer(bundle.command(), &layer).map_err(CreateError::from)
        }
        (Ok(None), Some(early)) => early,
        (Ok(None), None) => of_file(host, &bundle, &begun).await,
        (Err(error), _) => Err(error.into()),
    };
    if let Ok(workload) = &workload {
        host.hints.put(key, workload);
    }
    // An error goes there too: taking back what was begun blocks.
    let (pending, guest) =
        match blocking(host, move |host| finish(host, bundle, begun, workload)).await? {
            Built::Native(task) => return Ok(*task),
            Built::Guest(pending, guest) => (pending, guest),
        };
    // What is made of the rest, or undone of it, may block.
    let ready = until_ready(*pending, CREATE_SETUP_TIMEOUT, std::future::pending()).await;
    blocking(host, move |_| guest.complete(ready)).await
}

/// What the blocking part of Create makes.
enum Built {
    /// A container of a Linux program, which waits for its start.
    Native(Box<Task>),
    /// A guest's process that carries its orders out, and its container.
    Guest(Box<Pending>, Box<GuestContainer>),
}

/// A guest's container, but for its process.
struct GuestContainer {
    bundle: Arc<Bundle>,
    new: NewTask,
    guest: GuestModule,
    cgroup: NewCgroup,
    io: Io,
    sandbox: Option<Arc<Task>>,
    loading: Loading,
}

impl GuestContainer {
    fn complete(
        self,
        ready: Result<guest_sandbox::Guest, CreateError>,
    ) -> Result<Task, CreateError> {
        let Self {
            bundle,
            new,
            guest,
            cgroup,
            io,
            sandbox,
            loading,
        } = self;
        let process = match ready {
            Err(CreateError::Sandbox(SandboxError::Killed(killed))) => {
                loading.report_oom(killed, &cgroup)?
            }
            ready => ready?,
        };
        let init = Process::new(&new.id, "", new.streams);
        if process.was_killed() {
            init.hold_exit();
        }
        init.exists(
            process.pid(),
            Some(process::claim(process.pidfd())?),
            Some(io),
        );
        let seccomp = bundle
            .spec()
            .linux()
            .as_ref()
            .and_then(|linux| linux.seccomp().clone());
        let guest = guest.told_by(&process);
        let body = Body::Guest(Box::new(GuestBody {
            process,
            guest,
            seccomp,
        }));
        Ok(Task::new(new.id, &bundle, body, cgroup.keep(), init).of_pod(sandbox.as_deref()))
    }
}

/// A container whose workload is not known yet. All of it goes again when this is dropped.
struct Begun {
    new: NewTask,
    root: OwnedFd,
    /// None unless it is expected to be a guest.
    forked: Option<Result<Forked, CreateError>>,
}

/// Makes what does not depend on the workload, while containerd is asked for the image.
fn begin(
    host: &Arc<Host>,
    bundle: &Bundle,
    new: NewTask,
    hint: Hint,
) -> Result<Begun, CreateError> {
    let users = UserNamespace::of(bundle.spec().linux().as_ref())?;
    let root = rootfs::mount(&new.rootfs, bundle.rootfs().as_path(), users.as_ref())
        .map_err(CreateError::Rootfs)?;
    let forked = hint.forks_early().then(|| fork_guest(host, bundle, &new));
    Ok(Begun { new, root, forked })
}

/// Looks the entrypoint up in the container's files.
async fn of_file(
    host: &Arc<Host>,
    bundle: &Bundle,
    begun: &Begun,
) -> Result<Workload, CreateError> {
    let (command, id) = (bundle.command(), &begun.new.id);
    let entrypoint = Entrypoint::parse(command.args)?;
    let files = planned(
        bundle,
        begun.root.try_clone().map_err(CreateError::Descriptors)?,
    );
    let owner = LookupOwner {
        container: id,
        pod: bundle.sandbox(),
    };
    Ok(workload::of_file(
        entrypoint.clone(),
        lookup::find(host, owner, files, command, &entrypoint.path).await??,
    )?)
}

fn finish(
    host: &Arc<Host>,
    bundle: Arc<Bundle>,
    begun: Begun,
    workload: Result<Workload, CreateError>,
) -> Result<Built, CreateError> {
    let Begun { new, root, forked } = begun;
    let sandbox = bundle.sandbox().and_then(|sandbox| host.task(sandbox).ok());
    match workload? {
        Workload::Guest(guest) => {
            let forked = forked.unwrap_or_else(|| fork_guest(host, &bundle, &new))?;
            guest_container(bundle, new, root, guest, forked, sandbox)
        }
        Workload::Native => {
            drop(forked);
            refuse_users(&bundle)?;
            native(host, &bundle, new, &root)
                .map(|task| Built::Native(Box::new(task.of_pod(sandbox.as_deref()))))
        }
    }
}

/// A Linux program runs in no user namespace: libcontainer would leave the owners of volumes as
/// they are on the node.
fn refuse_users(bundle: &Bundle) -> Result<(), CreateError> {
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
                      leave hostUsers out, or run the \
                      program in a pod of its own";
        Err(Refused {
            field: format!("linux.namespaces[{index}]"),
            reason: reason.to_owned(),
        }
        .into())
    })
}

/// The process of a guest that is not known yet, in the cgroup of its container. Both go again when
/// this is dropped.
struct Forked {
    // First: a cgroup with a process in it cannot be removed.
    process: ForkedGuest<GuestProgram<Wasm>>,
    cgroup: NewCgroup,
}

fn fork_guest(host: &Arc<Host>, bundle: &Bundle, new: &NewTask) -> Result<Forked, CreateError> {
    let plan = Plan::of(
        bundle.spec(),
        bundle.folder(),
        host.kernel_features,
        &host.filters,
    )?;
    let cgroup = NewCgroup::make(host, bundle, new.options)?;
    let (entrance, adopt) = (cgroup.join_method()?, |pid| {
        cgroup.join_scope(pid).map_err(|error| error.to_string())
    });
    let process = guest_sandbox::fork(&host.zygote, new.id.clone(), plan, entrance, adopt)?;
    Ok(Forked { process, cgroup })
}

fn guest_container(
    bundle: Arc<Bundle>,
    new: NewTask,
    rootfs: OwnedFd,
    guest: GuestModule,
    forked: Forked,
    sandbox: Option<Arc<Task>>,
) -> Result<Built, CreateError> {
    let wasi = WasiContext::of(bundle.command(), &guest.entrypoint)?;
    // Of a layer it is known: its image names it.
    let digest = if guest.digest.is_none() {
        Digest::Asked
    } else {
        Digest::Unasked
    };
    let workload = GuestProgram::<Wasm>::new(&guest, wasi, digest)?;
    let (stdio, io) = streams::open(&new.streams, bundle.spec().process().as_ref())?;
    let loading = Loading::new(&guest, bundle.memory_limit(), &stdio)?;
    let Forked { process, cgroup } = forked;
    let pending = process.prepare(NewGuest {
        workload,
        stdio: for_guest(stdio),
        rootfs,
    })?;
    let rest = GuestContainer {
        bundle,
        new,
        guest,
        cgroup,
        io,
        sandbox,
        loading,
    };
    Ok(Built::Guest(Box::new(pending), Box::new(rest)))
}

fn native(
    host: &Arc<Host>,
    bundle: &Bundle,
    new: NewTask,
    root: &OwnedFd,
) -> Result<Task, CreateError> {
    let place = bundle.rootfs();
    // Without mounts the root is a folder that somebody else looks after.
    let is_ours = !new.rootfs.is_empty();
    if is_ours {
        mounted::attach(root, place.as_path())?;
    }
    let made = native_in(host, bundle, &new);
    let Made {
        process,
        pidfd,
        cgroup,
        io,
    } = made.inspect_err(|_| {
        if is_ours {
            mounted::detach(place.as_path());
        }
    })?;
    let init = Process::new(&new.id, "", new.streams);
    init.exists(process.pid(), Some(pidfd), Some(io));
    Ok(Task::new(
        new.id,
        bundle,
        Body::Native(process),
        cgroup,
        init,
    ))
}

/// A Linux program that waits for its start.
struct Made {
    process: native_container::Container,
    pidfd: Arc<OwnedFd>,
    cgroup: Cgroup,
    io: Io,
}

fn native_in(host: &Arc<Host>, bundle: &Bundle, new: &NewTask) -> Result<Made, CreateError> {
    let (stdio, io) = streams::open(&new.streams, bundle.spec().process().as_ref())?;
    let cgroup = Cgroup::open(
        &host.hierarchies,
        driver(new.options),
        &bundle.cgroups_path(),
    )?;
    let state = host.records.folder(&host.namespace, &new.id)?;
    let systemd = driver(new.options) == Driver::Systemd;
    let processes = pods_processes(host, bundle);
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
    let process = native_container::create(wanted)?;
    let pidfd = process::claim(process.pidfd()).inspect_err(|_| {
        if let Err(error) = process.delete() {
            tracing::warn!("cannot remove a container that could not be created: {error}");
        }
    })?;
    Ok(Made {
        process,
        pidfd,
        cgroup,
        io,
    })
}

/// What the spec of a sandbox says of its pod's processes: only a pod that sees the node's has no
/// pid namespace there.
fn processes_of(sandbox: &Bundle) -> Processes {
    let namespaces = sandbox
        .spec()
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_ref());
    let own = namespaces
        .into_iter()
        .flatten()
        .any(|namespace| namespace.typ() == LinuxNamespaceType::Pid);
    if own { Processes::Own } else { Processes::Node }
}

/// Whose processes the containers of this one's pod see.
fn pods_processes(host: &Host, bundle: &Bundle) -> Processes {
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
