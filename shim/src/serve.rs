//! From the command line to a running Task service.
#![expect(clippy::print_stdout, reason = "the engine's version is asked for on the command line")]

use std::process::ExitCode;

use containerd_shimkit::Config;
use containerd_shimkit::sandbox::cli::{Version, shim_main};

use crate::engine::{Engine as _, Wasm};
use crate::task::Task;

/// The name under which containerd knows this runtime: `io.containerd.wasmedge.v1`.
pub const RUNTIME: &str = "io.containerd.wasmedge.v1";

/// Serves until the last task of the pod is gone.
pub fn run() -> ExitCode {
    // Asked by the installer and by tests: proves that the engine's libraries load where this bundle stands.
    if std::env::args().nth(1).as_deref() == Some("--engine-version") {
        println!("{}", Wasm::version());
        return ExitCode::SUCCESS;
    }
    let config = Config { default_log_level: "info".to_owned(), ..Config::default() };
    let version = Version { version: env!("CARGO_PKG_VERSION"), revision: option_env!("WASMEDGE_RUNTIME_REVISION").unwrap_or("unknown") };
    shim_main::<Task>(RUNTIME, version, Some(config));
    ExitCode::SUCCESS
}
