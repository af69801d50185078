//! A guest as it is sent to the process that runs it.

use std::fs::File;
use std::marker::PhantomData;

use guest_sandbox::lookup::Reopened;
use guest_sandbox::{SandboxError, WireFd, Workload};
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, NotRunnable};
use crate::error::CreateError;
use crate::outcome::Outcome;
use crate::text::presentable;
use crate::wasi::WasiContext;
use crate::workload::kind::without_byte_order_mark;
use crate::workload::{Bytes, Form, GuestModule, digest, read_all};

/// Whether the guest's process reports the digest of its bytes. The host has no use for that of an
/// exec, which a probe starts every few seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DigestReport {
    /// It reports the digest.
    Wanted,
    /// It does not compute the digest.
    Skipped,
}

/// A guest for engine `E`.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct GuestProgram<E> {
    file: Source,
    form: Form,
    origin: String,
    digest: DigestReport,
    function: String,
    wasi: WasiContext,
    #[serde(skip)]
    engine: PhantomData<E>,
}

/// The source of a guest's bytes.
#[derive(Serialize, Deserialize)]
enum Source {
    Memory(WireFd),
    File(Reopened),
}

/// A guest that engine `E` has loaded, with its name for messages.
pub(crate) struct Ready<E: Engine> {
    prepared: E::Prepared,
    origin: String,
    digest: Option<String>,
}

impl<E: Engine> GuestProgram<E> {
    /// Describes `guest`, which is to run in the context `wasi`.
    ///
    /// # Errors
    /// If this process has no file descriptor left.
    pub(crate) fn new(
        guest: &GuestModule,
        wasi: WasiContext,
        digest: DigestReport,
    ) -> Result<Self, CreateError> {
        let file = match &guest.bytes {
            Bytes::Memory(file) => Source::Memory(WireFd::new(
                file.try_clone().map_err(CreateError::Descriptors)?,
            )),
            Bytes::File(path) => Source::File(
                Reopened::new(path.try_clone().map_err(CreateError::Descriptors)?)
                    .map_err(SandboxError::Host)?,
            ),
        };
        let (origin, function) = (guest.origin.clone(), guest.entrypoint.function.clone());
        Ok(Self {
            file,
            form: guest.form,
            origin,
            digest,
            function,
            wasi,
            engine: PhantomData,
        })
    }
}

impl<E: Engine> Workload for GuestProgram<E> {
    type Ready = Ready<E>;

    fn prepare(self) -> Result<Ready<E>, String> {
        let Self {
            file,
            form,
            origin,
            digest,
            function,
            wasi,
            engine: _,
        } = self;
        // An error may quote a line of the guest's text, and that may be the whole text.
        let refused = |error: String| {
            format!(
                "cannot run {}: {}",
                presentable(&origin),
                presentable(&error)
            )
        };
        let bytes = read(file, form).map_err(|error| refused(error.to_string()))?;
        // Computed in this process, because the host does not read files that a user can write.
        let digest = (digest == DigestReport::Wanted).then(|| digest::of(&bytes));
        let binary = binary(form, bytes).map_err(|error| refused(error.to_string()))?;
        let prepared =
            E::prepare(&binary, &function, &wasi).map_err(|error| refused(error.to_string()))?;
        Ok(Ready {
            prepared,
            origin,
            digest,
        })
    }

    fn describe(ready: &Ready<E>) -> Option<String> {
        ready.digest.clone()
    }

    fn run(ready: Ready<E>) -> u8 {
        let Ready {
            prepared,
            origin,
            digest: _,
        } = ready;
        let name = origin.clone();
        let end = move |outcome: Outcome| process_forker::exit(report(&name, &outcome));
        // Instantiation used as much memory again as the guest's code; the container would hold it
        // as long as the guest runs.
        let outcome = E::run(prepared, guest_sandbox::trim_memory, end);
        report(&origin, &outcome)
    }
}

/// Writes an outcome other than an exit to the container's log; returns the exit code.
#[expect(
    clippy::print_stderr,
    reason = "standard error is the container's, where its user looks"
)]
fn report(origin: &str, outcome: &Outcome) -> u8 {
    if !matches!(outcome, Outcome::Exited(_)) {
        eprintln!("{origin}: {outcome}");
    }
    outcome.exit_code()
}

fn read(file: Source, form: Form) -> std::io::Result<Vec<u8>> {
    let file = match file {
        Source::Memory(file) => File::from(file.into_inner()),
        Source::File(file) => file.into_file()?,
    };
    read_all(&file, form.max_bytes())
}

fn binary(form: Form, bytes: Vec<u8>) -> Result<Vec<u8>, NotRunnable> {
    match form {
        Form::Binary => Ok(bytes),
        Form::Text => {
            let parsed =
                wat::parse_bytes(without_byte_order_mark(&bytes)).map(std::borrow::Cow::into_owned);
            parsed.map_err(|error| NotRunnable::Text(error.to_string()))
        }
    }
}
