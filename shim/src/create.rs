//! Create: from a bundle to a container with a first process that waits for its start. The file
//! reads in the order of the steps.
//!
//! ```text
//! bundle ─► record ─► sandbox container: cgroup, a thread that holds the pod's namespaces
//!                 └─► other: root ──────────────────────────────────────────────────┐
//!                            Wasm layer of the image, or else a look-up of the file ┴► workload
//!                     guest:  plan, cgroup, a process that waits,                         │
//!                             streams, setup request, wait until it is ready ◄────────────┤
//!                     native: root mounted, streams, libcontainer        ◄────────────────┘
//! ```
//!
//! containerd answers for the image's layers within a millisecond or two. The root is mounted
//! meanwhile.
//!
//! The record is written first, so that the launcher can clean up if this process dies at any later
//! point. If a step fails, the steps before it are undone, and the record is removed last.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use container_cgroup::Cgroup;
use container_io::{Io, Streams};
use guest_sandbox::plan::{Plan, UserNamespace};
use guest_sandbox::rootfs::{self, Mount};
use guest_sandbox::{ForkedGuest, NewGuest, Pending, SandboxError};
use pod_sandbox::files::PodFiles;
use runtime_options::RuntimeOptions;
use shim_protocol::record::Record;

use crate::artifact::plan::Purpose;
use crate::artifact::{self, Execution, Policy, Runnable, Wanted};
use crate::blocking::{blocking_set_up, in_own_thread};
use crate::bundle::{Bundle, Role};
use crate::engine::EngineName;
use crate::error::CreateError;
use crate::host::Host;
use crate::lookup::{self, LookupOwner};
use crate::oom::Loading;
use crate::process::{self, Process};
use crate::program::GuestProgram;
use crate::streams::{self, for_guest};
use crate::task::{Body, GuestBody, Task};
use crate::wait::{CREATE_SETUP_TIMEOUT, setup_permit, until_ready};
use crate::wasi::WasiContext;
use crate::workload::hints::{Hint, Key};
use crate::workload::image::wasm_layer;
use crate::workload::rootfs::planned;
use crate::workload::{self, Entrypoint, GuestModule, Workload};
use cgroup::NewCgroup;

mod cgroup;
mod native;
mod pod;

/// The parameters of a new container, beside its bundle.
#[derive(Debug)]
pub(crate) struct NewTask {
    /// The container's id.
    pub(crate) id: String,
    /// The mounts of its root file system.
    pub(crate) rootfs: Vec<Mount>,
    /// The names of its standard streams.
    pub(crate) streams: Streams,
    /// The handler's options.
    pub(crate) options: RuntimeOptions,
}

/// Creates the container.
///
/// # Errors
/// If it cannot be created; nothing of it is left then.
pub(crate) async fn create(
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
        new.options.cgroup_driver,
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
        // The first error is returned; the launcher's delete finds what remains.
        if let Err(error) = host.records.remove(&record.namespace, &record.id) {
            tracing::warn!("cannot remove {}: {error}", folder.display());
        }
    }
    made
}

async fn make(host: &Arc<Host>, bundle: Bundle, new: NewTask) -> Result<Task, CreateError> {
    match bundle.role() {
        Role::Sandbox => blocking(host, move |host| pod::create(host, &bundle, new)).await,
        Role::Container => container(host, bundle, new).await,
    }
}

/// Creates a container of a workload.
async fn container(host: &Arc<Host>, bundle: Bundle, new: NewTask) -> Result<Task, CreateError> {
    let (id, bundle) = (new.id.clone(), Arc::new(bundle));
    // Held until the end: a set-up that blocks on a volume's file system takes a thread, and a pod
    // must not take the threads that other pods need.
    let _permit = match sandbox_of(host, &bundle) {
        Some(sandbox) => Some(setup_permit(&sandbox.setups, &id, std::future::pending()).await?),
        None => None,
    };
    let in_prepare = Arc::clone(&bundle);
    let key = Key::of(&new.rootfs, bundle.command());
    let hint = host.hints.get(key.as_ref());
    let prepared = async {
        let prepared = blocking(host, move |_| prepare(&in_prepare, new)).await?;
        let early = if hint.looks_up_early() {
            Some(look_up(host, &bundle, &prepared, hint).await)
        } else {
            None
        };
        Ok::<_, CreateError>((prepared, early))
    };
    let (prepared, layer) = tokio::join!(
        prepared,
        wasm_layer(&id, &host.containerd, &host.image_cache)
    );
    let (prepared, early) = prepared?;
    let workload = match (layer, early) {
        (Ok(Some(layer)), _) => {
            workload::from_layer(bundle.command(), &layer).map_err(CreateError::from)
        }
        (Ok(None), Some(early)) => early,
        (Ok(None), None) => look_up(host, &bundle, &prepared, hint).await,
        (Err(error), _) => Err(error.into()),
    };
    if let Ok(workload) = &workload {
        host.hints.put(key, workload);
    }
    let is_native = matches!(workload, Ok(Workload::Native));
    let workload = match workload {
        Ok(workload) => with_code(host, &bundle, &prepared.new, workload).await,
        Err(error) => Err(error),
    };
    let in_host = Arc::clone(host);
    // Errors are handled there too: undoing the preparation blocks.
    let set_up = move || set_up(&in_host, bundle, prepared, workload);
    let requested = if is_native {
        in_own_thread(set_up).await?
    } else {
        blocking_set_up(set_up).await?
    };
    let (pending, guest) = match requested {
        Requested::Native(task) => return Ok(*task),
        Requested::Guest(pending, guest) => (pending, guest),
    };
    // Completing the container, or undoing it, may block.
    let ready = until_ready(*pending, CREATE_SETUP_TIMEOUT, std::future::pending()).await;
    blocking(host, move |_| guest.complete(ready)).await
}

/// The code of a container's guest, and why it was chosen.
struct GuestCode {
    execution: Execution,
    policy: Policy,
}

/// Returns the workload with the code that it runs, if it is a guest.
async fn with_code(
    host: &Arc<Host>,
    bundle: &Bundle,
    new: &NewTask,
    workload: Workload,
) -> Result<Runnable<GuestCode>, CreateError> {
    let Workload::Guest(guest) = workload else {
        return Ok(Runnable::Native);
    };
    let policy = Policy {
        settings: bundle.guest_settings(&new.options.handler)?,
        options: new.options.clone(),
    };
    let wanted = Wanted {
        guest: &guest,
        policy: &policy,
        purpose: Purpose::Container,
    };
    let execution = artifact::choose(&host.artifacts, wanted).await?;
    Ok(Runnable::Guest(guest, GuestCode { execution, policy }))
}

/// Returns the sandbox of the container's pod; none if CRI does not create it.
fn sandbox_of(host: &Host, bundle: &Bundle) -> Option<Arc<Task>> {
    host.task(bundle.sandbox()?).ok()
}

/// Runs `work` in a thread that may block.
async fn blocking<T: Send + 'static>(
    host: &Arc<Host>,
    work: impl FnOnce(&Arc<Host>) -> Result<T, CreateError> + Send + 'static,
) -> Result<T, CreateError> {
    let host = Arc::clone(host);
    blocking_set_up(move || work(&host)).await
}

/// The part of a container that does not depend on the workload. Dropping it undoes it.
struct Prepared {
    new: NewTask,
    root: OwnedFd,
}

/// Makes what does not depend on the workload, while containerd resolves the image.
fn prepare(bundle: &Bundle, new: NewTask) -> Result<Prepared, CreateError> {
    let users = UserNamespace::of(bundle.spec().linux().as_ref())?;
    let root = rootfs::mount(&new.rootfs, bundle.rootfs().as_path(), users.as_ref())
        .map_err(CreateError::Rootfs)?;
    Ok(Prepared { new, root })
}

/// The process of a guest, in the cgroup of its container. Dropping it kills the process and
/// removes the cgroup.
struct Forked {
    // Dropped first: a cgroup with a process in it cannot be removed.
    process: ForkedGuest<GuestProgram>,
    cgroup: NewCgroup,
}

fn fork_guest(
    host: &Arc<Host>,
    bundle: &Bundle,
    new: &NewTask,
    engine: EngineName,
) -> Result<Forked, CreateError> {
    let plan = Plan::of(
        bundle.spec(),
        bundle.folder(),
        host.kernel_features,
        &host.filters,
    )?;
    let cgroup = NewCgroup::make(host, bundle, &new.options)?;
    let join_method = cgroup.join_method()?;
    let join_scope = |pid| cgroup.join_scope(pid).map_err(|error| error.to_string());
    let zygote = host.zygotes.of(engine);
    let process = guest_sandbox::fork(zygote, new.id.clone(), plan, join_method, join_scope)?;
    Ok(Forked { process, cgroup })
}

/// Looks the entrypoint up in the container's files.
async fn look_up(
    host: &Arc<Host>,
    bundle: &Bundle,
    prepared: &Prepared,
    hint: Hint,
) -> Result<Workload, CreateError> {
    let (command, id) = (bundle.command(), &prepared.new.id);
    let entrypoint = Entrypoint::parse(command.args)?;
    let root = prepared
        .root
        .try_clone()
        .map_err(CreateError::Descriptors)?;
    let files = planned(root, bundle.mounts(), bundle.folder());
    let owner = LookupOwner {
        container: id,
        pod: bundle.sandbox(),
    };
    let found = lookup::find(
        &host.lookups,
        host.zygotes.main(),
        owner,
        files,
        command,
        &entrypoint.path,
        hint.known().into_iter().collect(),
    )
    .await??;
    Ok(workload::from_file(entrypoint, found)?)
}

/// A container under set-up.
enum Requested {
    /// A container of a Linux program, which waits for its start.
    Native(Box<Task>),
    /// A guest's process that applies its setup request, and its container.
    Guest(Box<Pending>, Box<GuestContainer>),
}

/// Requests the set-up of the workload.
fn set_up(
    host: &Arc<Host>,
    bundle: Arc<Bundle>,
    prepared: Prepared,
    workload: Result<Runnable<GuestCode>, CreateError>,
) -> Result<Requested, CreateError> {
    let Prepared { new, root } = prepared;
    let sandbox = sandbox_of(host, &bundle);
    match workload? {
        Runnable::Guest(guest, code) => {
            let forked = fork_guest(host, &bundle, &new, code.execution.engine())?;
            set_up_guest(bundle, new, root, (guest, code), forked, sandbox)
        }
        Runnable::Native => native::create(host, &bundle, new, &root)
            .map(|task| Requested::Native(Box::new(task.of_pod(sandbox.as_deref())))),
    }
}

fn set_up_guest(
    bundle: Arc<Bundle>,
    new: NewTask,
    rootfs: OwnedFd,
    (guest, code): (GuestModule, GuestCode),
    forked: Forked,
    sandbox: Option<Arc<Task>>,
) -> Result<Requested, CreateError> {
    let wasi = WasiContext::of(bundle.command(), &guest.entrypoint)?;
    let workload = GuestProgram::new(&guest, code.execution.code()?, wasi)?;
    let (stdio, io) = streams::open(&new.streams, bundle.spec().process().as_ref())?;
    let Forked { process, cgroup } = forked;
    let loading = Loading::new(&guest, bundle.memory_limit(), &stdio, &cgroup)?;
    let pending = process.prepare(NewGuest {
        workload,
        stdio: for_guest(stdio),
        rootfs,
    })?;
    let rest = GuestContainer {
        bundle,
        new,
        guest,
        code,
        cgroup,
        io,
        sandbox,
        loading,
    };
    Ok(Requested::Guest(Box::new(pending), Box::new(rest)))
}

/// The container of a guest, without its process.
struct GuestContainer {
    bundle: Arc<Bundle>,
    new: NewTask,
    guest: GuestModule,
    code: GuestCode,
    cgroup: NewCgroup,
    io: Io,
    sandbox: Option<Arc<Task>>,
    loading: Loading,
}

impl GuestContainer {
    /// Makes the task once the process is ready.
    fn complete(
        self,
        ready: Result<guest_sandbox::Guest, CreateError>,
    ) -> Result<Task, CreateError> {
        let Self {
            bundle,
            new,
            guest,
            code: GuestCode { execution, policy },
            cgroup,
            io,
            sandbox,
            loading,
        } = self;
        let process = match ready {
            Err(CreateError::Sandbox(SandboxError::Killed(killed))) => {
                loading.report_oom(killed, &cgroup)?
            }
            Err(CreateError::Sandbox(error)) => {
                execution.discard_if_refused(&error);
                return Err(error.into());
            }
            ready => ready?,
        };
        let init = Process::new(&new.id, "", new.streams);
        if process.was_killed() {
            init.hold_exit();
        }
        init.attach(
            process.pid(),
            Some(process::share_pidfd(process.pidfd())?),
            Some(io),
        );
        let seccomp = bundle
            .spec()
            .linux()
            .as_ref()
            .and_then(|linux| linux.seccomp().clone());
        let body = Body::Guest(Box::new(GuestBody {
            process,
            guest,
            execution,
            policy,
            last_exec: Mutex::default(),
            seccomp,
        }));
        Ok(Task::new(new.id, &bundle, body, cgroup.keep(), init).of_pod(sandbox.as_deref()))
    }
}
