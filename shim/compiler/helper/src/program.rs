//! The helper from its request to its reply.

use std::fs::File;
use std::io::Write as _;
use std::process::ExitCode;

use guest_compiler::protocol::{HELPER_NAME, Job, MAX_REQUEST, Message, Reply};
use guest_compiler::{ARTIFACT, Backend};
use rustix::fs::{CWD, Mode, OFlags, openat};

pub use guest_compiler::protocol::{Failure, Step};

use crate::{confine, module};

/// A module to compile, and how.
#[derive(Debug)]
pub struct Wasm<'a> {
    /// Its bytes, in the binary format, without native code.
    pub bytes: &'a [u8],
    /// The compiler that the host asks for.
    pub backend: Backend,
    /// The build of the runtime whose guests load the code.
    pub build: &'a str,
}

/// Why there is no compiled code.
#[derive(Debug)]
pub enum Refusal {
    /// The module cannot be compiled.
    Module(String),
    /// Its bytes are not those that were to be compiled.
    Changed,
    /// The node failed.
    Node(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Node(failure)
    }
}

/// Serves the one request of this process, whose socket is its standard input. `compile` writes
/// the file [`ARTIFACT`] into the working folder.
pub fn run(compile: fn(&Wasm<'_>) -> Result<(), Refusal>) -> ExitCode {
    let reply = match serve(compile) {
        Ok(()) => Reply::Compiled,
        Err(Refusal::Module(text)) => Reply::Refused(text),
        Err(Refusal::Changed) => Reply::Changed,
        Err(Refusal::Node(failure)) => Reply::Failed(failure),
    };
    match send(&reply.truncated()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(compile: fn(&Wasm<'_>) -> Result<(), Refusal>) -> Result<(), Refusal> {
    rustix::thread::set_name(HELPER_NAME).step(|| "name the process")?;
    let job: Job = Message::receive(rustix::stdio::stdin(), MAX_REQUEST)
        .and_then(Message::value)
        .step(|| "receive the request")?;
    let Job {
        backend,
        build,
        module,
        form,
        sha256,
        max_module_bytes,
        copy_to,
        draft,
    } = job;
    let file = module::open(module.into_inner()).step(|| "open the module")?;
    confine::enter(draft.into_inner())?;
    send(&Reply::Confined).step(|| "report the confinement")?;
    let module = module::Source {
        file,
        form,
        sha256,
        max_bytes: max_module_bytes,
        copy_to: copy_to.map(guest_compiler::protocol::WireFd::into_inner),
    };
    let bytes = module.read()?;
    compile(&Wasm {
        bytes: &bytes,
        backend,
        build: &build,
    })
}

fn send(reply: &Reply) -> std::io::Result<()> {
    Message::of(reply)?.send(rustix::stdio::stdin())
}

/// Writes the compiled code into the working folder.
///
/// # Errors
/// If it cannot be written: the disk is full, for example.
pub fn write_artifact(code: &[u8]) -> Result<(), Refusal> {
    let step = || "write the compiled code";
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(CWD, ARTIFACT, flags, Mode::RUSR | Mode::WUSR).step(step)?;
    File::from(file).write_all(code).step(step)?;
    Ok(())
}
