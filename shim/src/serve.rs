//! From the command line to the running services, and to their end.
#![expect(
    clippy::print_stdout,
    reason = "the engine's version is asked for on the command line"
)]

use std::io::Write as _;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use container_cgroup::Hierarchies;
use containerd_shim_protos::sandbox_async::create_sandbox;
use containerd_shim_protos::shim_async::create_task;
use containerd_shim_protos::ttrpc::r#async::Server;
use containerd_shim_protos::ttrpc::r#async::transport::Listener;
use guest_sandbox::Zygote;
use guest_sandbox::plan::KernelFeatures;
use guest_sandbox::seccomp::FilterCache;
use host_reports::events::Events;
use host_reports::logs::{self, Identity, Logs};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shim_protocol::host::{HostArguments, Place, READY, SOCKET_FD};
use shim_protocol::options::LogLevel;
use shim_protocol::record::Records;
use tokio::runtime::Handle;
use tracing::level_filters::LevelFilter;

use crate::engine::{Engine as _, Wasm};
use crate::host::Host;
use crate::host::tasks::Tasks;
use crate::process;
use crate::service::Service;
use crate::service::sandbox::Sandboxes;
use crate::workload::hints::Hints;
use crate::workload::image::{Containerd, Kept};
use crate::workload::lookup::Lookups;

/// The name under which containerd knows this runtime.
const RUNTIME: &str = "io.containerd.wasmedge.v1";
/// The name of the Task API before containerd 2.0; its words are the same.
const TASK_V2: &str = "containerd.task.v2.Task";
/// The name that the crate serves it under.
const TASK_V3: &str = "containerd.task.v3.Task";
/// Where containerd takes events (containerd's shim contract).
const TTRPC_ADDRESS: &str = "TTRPC_ADDRESS";
/// Threads that answer requests. What blocks runs in others, which come and go.
const WORKERS: usize = 2;

/// Serves until no container is left and none is to be expected.
pub fn run() -> ExitCode {
    // Asked by the installer and by tests: proves that the engine's libraries load where this
    // bundle stands.
    if std::env::args().nth(1).as_deref() == Some("--engine-version") {
        println!("{}", Wasm::version());
        return ExitCode::SUCCESS;
    }
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the host ends: {error:#}");
            // The launcher waits for it, unless it was killed.
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<()> {
    let arguments = HostArguments::parse(std::env::args_os().skip(1))?;
    let listener = listener();
    // While there is one thread: what is forked from a zygote later sees no lock that another
    // thread holds. This thread is the parent of all that they fork, and lives as long as the
    // process: they die with it.
    native_container::init().context("start the process that forks native containers")?;
    let zygote = Zygote::start(Wasm::warm).context("start the process that forks guests")?;
    // After the forks, so that containers do not inherit it: each costs us up to a dozen
    // descriptors.
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: most,
            maximum: most,
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
    runtime.block_on(host(arguments, listener, zygote, logs))
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
    reason = "a descriptor that another process left is a number"
)]
fn listener() -> UnixListener {
    // SAFETY: the launcher leaves the listening socket on this descriptor, and nothing else in this
    // process takes it.
    UnixListener::from(unsafe { OwnedFd::from_raw_fd(SOCKET_FD) })
}

/// The launcher of the bundle on whose loader this process runs: `lib/ld-… bin/wasmedge-host`.
fn launcher() -> Result<PathBuf> {
    let loader = std::fs::read_link("/proc/self/exe").context("read /proc/self/exe")?;
    let root = loader
        .parent()
        .and_then(Path::parent)
        .with_context(|| format!("{} lies in no runtime bundle", loader.display()))?;
    Ok(root.join("bin/containerd-shim-wasmedge-v1"))
}

async fn host(
    arguments: HostArguments,
    listener: UnixListener,
    zygote: Zygote,
    logs: Logs,
) -> Result<()> {
    let HostArguments {
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
    let host = Arc::new(Host {
        records: Records::of(&address),
        store: Containerd::new(address, namespace.clone()),
        namespace,
        events,
        logs,
        zygote,
        hierarchies: Hierarchies::find()?,
        kernel_features: KernelFeatures::read(),
        filters: FilterCache::new()
            .context("make the filter of system calls that every guest is under")?,
        launcher: launcher().context("find the launcher of this runtime bundle")?,
        max_containers,
        place: Place::of_socket(&socket, key),
        socket,
        kept: Kept::default(),
        hints: Hints::default(),
        lookups: Lookups::default(),
        tasks: Tasks::default(),
    });
    let mut server = server(listener, &host)?;
    server.start().await.context("serve")?;
    say_ready().context("take leave of the launcher")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), socket = %host.socket.display(), "the host \
                                                            serves");
    tokio::spawn(watch_zygote(Arc::clone(&host)));
    host.until_unneeded().await;
    tracing::info!("the host ends: nobody needs it");
    Ok(())
}

/// Lets the launcher go, which waits to tell containerd why this host cannot serve.
fn say_ready() -> std::io::Result<()> {
    // It may have been killed.
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
    let mut former = service();
    let v2 = former
        .remove(TASK_V3)
        .context("the crate of containerd's protocol serves the Task API under another name")?;
    former.insert(TASK_V2.to_owned(), v2);
    let sandboxes = create_sandbox(Arc::new(Sandboxes::new(Arc::clone(host))));
    let server = Server::new().add_listener(Listener::from(listener));
    Ok(server
        .register_service(service())
        .register_service(former)
        .register_service(sandboxes))
}

/// A zygote that is lost has another in its place before somebody asks for it. Where there can be
/// none, the host makes no more guests; those that it has are its own children and go on.
async fn watch_zygote(host: Arc<Host>) {
    loop {
        let asked = Arc::clone(&host);
        let zygote = tokio::task::spawn_blocking(move || asked.zygote.pidfd()).await;
        let ended = async { anyhow::Ok(process::readable(zygote??)?.readable().await.map(drop)?) };
        match ended.await {
            Ok(()) => tracing::error!(
                "the process that forks guests was lost: another one takes its place"
            ),
            Err(error) => {
                tracing::error!(
                    "no guest can be forked any more, so this host takes no more containers: \
                     {error:#}"
                );
                break;
            }
        }
    }
    host.drain().await;
}
