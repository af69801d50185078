//! From the command line to a running Task service.
#![expect(clippy::print_stdout, reason = "the engine's version is asked for on the command line")]

use std::process::ExitCode;
use std::sync::Arc;

use containerd_shim::publisher::RemotePublisher;
use containerd_shim::{Config, DeleteResponse, Error, ExitSignal, Flags, StartOpts};
use zygote::Zygote;

use crate::engine::{Engine as _, Wasm};
use crate::events::Events;
use crate::service::Service;

/// The name under which containerd knows this runtime.
pub const RUNTIME: &str = "io.containerd.wasmedge.v1";

/// Serves until the last task of the pod is gone.
pub fn run() -> ExitCode {
    // Asked by the installer and by tests: proves that the engine's libraries load where this bundle stands.
    if std::env::args().nth(1).as_deref() == Some("--engine-version") {
        println!("{}", Wasm::version());
        return ExitCode::SUCCESS;
    }
    // While there is one thread: what is forked from the zygote later sees no lock that another thread holds.
    Zygote::init();
    // The socket is the host's. A container that held it too would keep it alive after the host's death, and the
    // launcher would take the pod for served.
    Zygote::global().run(|()| nix::unistd::close(SOCKET).unwrap_or_default(), ());
    containerd_shim::run::<Host>(RUNTIME, Some(Config { default_log_level: "info".to_owned(), ..Config::default() }));
    ExitCode::SUCCESS
}

/// This process, as containerd-shim sees it.
struct Host {
    namespace: String,
    containerd: String,
    exit: Arc<ExitSignal>,
}

impl containerd_shim::Shim for Host {
    type T = Service;

    fn new(_: &str, flags: &Flags, _: &mut Config) -> Self {
        Self { namespace: flags.namespace.clone(), containerd: flags.address.clone(), exit: Arc::default() }
    }

    fn start_shim(&mut self, _: StartOpts) -> Result<String, Error> {
        Err(Error::Unimplemented("start is the launcher's: run containerd-shim-wasmedge-v1".to_owned()))
    }

    fn delete_shim(&mut self) -> Result<DeleteResponse, Error> {
        Err(Error::Unimplemented("delete is the launcher's: run containerd-shim-wasmedge-v1".to_owned()))
    }

    fn wait(&mut self) {
        self.exit.wait();
    }

    fn create_task_service(&self, publisher: RemotePublisher) -> Service {
        let address = std::env::var(TTRPC_ADDRESS).unwrap_or_default();
        let events = Events::start(self.namespace.clone(), address, publisher).expect("a process that just started can start a thread");
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().expect("a process that just started can start a thread");
        Service::new(self.namespace.clone(), &self.containerd, events, Arc::clone(&self.exit), runtime)
    }
}

/// The descriptor on which the launcher leaves the listening socket (containerd's shim contract).
const SOCKET: i32 = 3;
/// Where containerd takes events (containerd's shim contract).
const TTRPC_ADDRESS: &str = "TTRPC_ADDRESS";
