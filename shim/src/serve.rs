//! The node host's start: from the command line to running services, until it shuts down.
#![expect(
    clippy::print_stdout,
    reason = "`--engine-version` prints to standard output"
)]

use std::io::Write as _;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use container_cgroup::Hierarchies;
use containerd_shim_protos::sandbox_async::create_sandbox;
use containerd_shim_protos::shim_async::create_task;
use containerd_shim_protos::ttrpc::r#async::Server;
use containerd_shim_protos::ttrpc::r#async::transport::Listener;
use guest_compiler::{Compiler, Programs};
use guest_sandbox::plan::KernelFeatures;
use guest_sandbox::seccomp::FilterCache;
use host_reports::events::Events;
use host_reports::logs::{self, Identity, Logs};
use process_forker::Forkers;
use runtime_options::LogLevel;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shim_protocol::host::{HostArguments, HostFiles, LOADER, READY, SOCKET_FD};
use shim_protocol::record::Records;
use tokio::runtime::Handle;
use tracing::level_filters::LevelFilter;

use crate::artifact::Artifacts;
use crate::engine::{Engine as _, Wasm};
use crate::host::Host;
use crate::host::tasks::Tasks;
use crate::lookup::Lookups;
use crate::process;
use crate::service::Service;
use crate::service::sandbox::Sandboxes;
use crate::workload::hints::Hints;
use crate::workload::image::{Containerd, ImageCache};
use crate::zygotes::Zygotes;

/// The name under which containerd knows this runtime.
const RUNTIME: &str = "io.containerd.wasmedge.v1";
/// The name of the Task API before containerd 2.0; its messages are the same.
const TASK_V2: &str = "containerd.task.v2.Task";
/// The name under which the protocol crate serves it.
const TASK_V3: &str = "containerd.task.v3.Task";
/// The variable with the address to which events are sent (containerd's shim contract).
const TTRPC_ADDRESS: &str = "TTRPC_ADDRESS";
/// Threads that serve requests. Blocking work runs in threads of its own.
const WORKERS: usize = 2;

/// Runs the host until it has no container and expects none.
pub fn run() -> ExitCode {
    // For the installer and tests: proves that the engine's libraries load where this bundle is.
    if std::env::args().nth(1).as_deref() == Some("--engine-version") {
        println!("{}", Wasm::version());
        return ExitCode::SUCCESS;
    }
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the host ends: {error:#}");
            // The launcher reads it, unless it was killed.
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<()> {
    let arguments = HostArguments::parse(std::env::args_os().skip(1))?;
    let listener = listener();
    // The forkers fork while this process has one thread, so that no copied lock is held by another
    // thread. This thread is the parent of everything that they fork, and lives as long as the
    // process: all of it dies with the host.
    let forkers = Arc::new(Forkers::start()?);
    let zygotes = Zygotes::new(&forkers);
    // Made at once: an engine that cannot be loaded is reported to the launcher, and the first
    // guest does not wait for it.
    zygotes
        .main()
        .pidfd()
        .context("start the process that forks guests")?;
    // After the forks, so that containers do not inherit it: each container costs the host up to a
    // dozen descriptors.
    let max = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: max,
            maximum: max,
        },
    )
    .context("raise the limit of open files")?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("start the threads that answer requests")?;
    let identity = Identity {
        runtime: RUNTIME.to_owned(),
        namespace: arguments.namespace.clone(),
    };
    let logs = logs::init(identity, level(arguments.log_level))?;
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    runtime.block_on(host(arguments, listener, (forkers, zygotes), logs))
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[expect(
    unsafe_code,
    reason = "a descriptor that another process passes on is a number"
)]
fn listener() -> UnixListener {
    // SAFETY: the launcher passes the listening socket on this descriptor, and nothing else in this
    // process takes it.
    UnixListener::from(unsafe { OwnedFd::from_raw_fd(SOCKET_FD) })
}

async fn host(
    arguments: HostArguments,
    listener: UnixListener,
    (forkers, zygotes): (Arc<Forkers>, Zygotes),
    logs: Logs,
) -> Result<()> {
    let HostArguments {
        launcher,
        namespace,
        address,
        key,
        socket,
        max_containers,
        ..
    } = arguments;
    let events = Events::start(
        namespace.clone(),
        &std::env::var(TTRPC_ADDRESS).unwrap_or_default(),
        &Handle::current(),
    );
    let hierarchies = Hierarchies::find()?;
    let artifacts = artifacts(&launcher, &forkers, &hierarchies)?;
    let host = Arc::new(Host {
        records: Records::new(&address),
        containerd: Containerd::new(address, namespace.clone()),
        namespace,
        events,
        logs,
        forkers,
        zygotes,
        artifacts: Arc::new(artifacts),
        hierarchies,
        kernel_features: KernelFeatures::read(),
        filters: FilterCache::new()
            .context("make the system call filter that every guest is under")?,
        launcher,
        max_containers,
        place: HostFiles::from_socket(&socket, key),
        socket,
        image_cache: ImageCache::default(),
        hints: Hints::default(),
        lookups: Lookups::default(),
        tasks: Tasks::default(),
    });
    let mut server = server(listener, &host)?;
    server.start().await.context("serve")?;
    report_ready().context("report to the launcher that this host is ready")?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        socket = %host.socket.display(),
        "the host serves"
    );
    tokio::spawn(watch_zygote(Arc::clone(&host)));
    host.until_unneeded().await;
    tracing::info!("the host ends: it has no container and expects none");
    Ok(())
}

/// Describes the artifacts of the bundle that `launcher` is in.
fn artifacts(
    launcher: &Path,
    forkers: &Arc<Forkers>,
    hierarchies: &Hierarchies,
) -> Result<Artifacts> {
    let root = launcher.parent().and_then(Path::parent);
    let programs = root.and_then(|root| Programs::of_bundle(&root.join("lib").join(LOADER)));
    let (Some(root), Some(programs)) = (root, programs) else {
        bail!("{} is in no runtime bundle", launcher.display());
    };
    let compiler = Compiler::new(Arc::clone(forkers), hierarchies.clone(), programs);
    Ok(Artifacts::new(root.to_owned(), compiler))
}

/// Reports to the launcher that this host serves, and closes standard error. Until then the
/// launcher waits for the reason why the host cannot serve, which it returns to containerd.
fn report_ready() -> std::io::Result<()> {
    // The launcher may have been killed.
    let _ = std::io::stderr().write_all(READY.as_bytes());
    Ok(rustix::stdio::dup2_stderr(
        std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")?,
    )?)
}

fn server(listener: UnixListener, host: &Arc<Host>) -> Result<Server> {
    listener
        .set_nonblocking(true)
        .context("prepare the socket")?;
    let listener = tokio::net::UnixListener::from_std(listener).context("prepare the socket")?;
    let service = || create_task(Arc::new(Service::new(Arc::clone(host))));
    let mut task_v2 = service();
    let methods = task_v2
        .remove(TASK_V3)
        .context("the crate of containerd's protocol serves the Task API under another name")?;
    task_v2.insert(TASK_V2.to_owned(), methods);
    let sandboxes = create_sandbox(Arc::new(Sandboxes::new(Arc::clone(host))));
    let server = Server::new().add_listener(Listener::from(listener));
    Ok(server
        .register_service(service())
        .register_service(task_v2)
        .register_service(sandboxes))
}

/// Replaces the main zygote, if it was lost, before the next request needs it. If none can be
/// started, the host drains: it creates no more containers. Its running guests are children of the
/// host itself and go on.
async fn watch_zygote(host: Arc<Host>) {
    loop {
        let asked = Arc::clone(&host);
        let zygote = tokio::task::spawn_blocking(move || asked.zygotes.main().pidfd()).await;
        let ended = async { anyhow::Ok(process::readable(zygote??)?.readable().await.map(drop)?) };
        match ended.await {
            Ok(()) => tracing::error!(
                "the process that forks guests was lost: another one takes its place"
            ),
            Err(error) => {
                tracing::error!(
                    "no guest can be forked from now on, so this host takes no more containers: \
                     {error:#}"
                );
                break;
            }
        }
    }
    host.drain().await;
}
