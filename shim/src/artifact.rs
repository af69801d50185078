//! The code that a guest runs: its module, or an artifact that was compiled from it.
//!
//! ```text
//! settings, module ─► stores    the store of the handler's options, or one in memory
//!                  ─► facts     what the store has of each tier
//!                  ─► plan      run, interpret, or compile and wait
//!                  ─► jobs      one compilation for each key, in the background
//!                  ─► Execution for the guest's process and the container
//! ```
//!
//! | file | content |
//! |---|---|
//! | `artifact/plan.rs` | the decision: pure |
//! | `artifact/stores.rs` | the artifact stores of this host's handlers |
//! | `artifact/identity.rs` | what decides an artifact's key, beside its module |
//! | `artifact/jobs.rs` | compilations of this host |
//!
//! An artifact is compiled from the bytes with the digest of its key, by our own helper, and is
//! verified when a host first uses it. If one does not load, the start fails and the artifact is
//! removed: nothing runs in its place.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use artifact_store::{Artifact, EngineName, KeyInputs, Store, StoreError, Tier};
use guest_compiler::{Compiler, Limits};
use guest_sandbox::{SandboxError, WireFd};
use runtime_options::{GuestSettings, HandlerOptions, Mode, RuntimeOptions};
use thiserror::Error;

use crate::blocking::blocking_set_up;
use crate::engine::{Code, Engine as _, Wasm, Wasmtime};
use crate::error::CreateError;
use crate::request;
use crate::text::chain;
use crate::workload::GuestModule;
use crate::workload::digest::Digest;
use identity::{Identity, IdentityError};
use jobs::{Finished, Job, Jobs, Ticket, Urgency};
use plan::{CannotRun, Decision, Interpreted, Otherwise, Purpose, Stored, Wait};
use stores::Stores;

mod identity;
pub(crate) mod jobs;
pub(crate) mod plan;
mod stores;

/// The artifacts of a host: its stores, and its compilations.
pub(crate) struct Artifacts {
    /// The folder of the host's bundle.
    bundle: PathBuf,
    identity: OnceLock<Result<Identity, IdentityError>>,
    stores: Stores,
    jobs: Arc<Jobs>,
}

/// The code that a guest runs.
#[derive(Debug)]
pub(crate) enum Execution {
    /// The module itself, by the interpreter, for this reason.
    Interpreted(Interpreted),
    /// A compiled artifact. It stays in the store while this value lives.
    Compiled {
        /// The artifact.
        artifact: Box<Artifact>,
        /// Its store.
        store: Arc<Store>,
    },
}

/// A workload that can be run: a guest has code.
#[derive(Debug)]
pub(crate) enum Runnable<C> {
    /// A Linux program.
    Native,
    /// A guest with its code.
    Guest(GuestModule, C),
}

/// What decides the code of a container's guests.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// The settings of the container.
    pub(crate) settings: GuestSettings,
    /// The options of its handler.
    pub(crate) options: RuntimeOptions,
}

/// A guest that is to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The guest.
    pub(crate) guest: &'a GuestModule,
    /// What decides its code.
    pub(crate) policy: &'a Policy,
    /// The process that is to run it.
    pub(crate) purpose: Purpose,
}

/// There is no code that the guest could run.
#[derive(Debug, Error)]
pub(crate) enum ArtifactError {
    /// The settings ask for what the engine cannot do.
    #[error("cannot run {origin}")]
    CannotRun {
        /// The guest.
        origin: String,
        /// The reason.
        source: CannotRun,
    },
    /// The artifact cannot be handed to the guest's process.
    #[error("cannot pass the compiled guest to its process")]
    Store(#[source] StoreError),
    /// The compilation takes longer than the start waits.
    #[error(
        "{origin} is still being compiled for wasmtime after {waited:?}, the setting compile-wait: \
         Kubernetes tries again, and the compilation goes on meanwhile; to wait longer, raise \
         compile-wait"
    )]
    StillCompiling {
        /// The guest.
        origin: String,
        /// How long the start waited.
        waited: Duration,
    },
    /// containerd cancelled the request.
    #[error(
        "{origin}: containerd cancelled the request before the module was compiled; the \
         compilation goes on"
    )]
    Cancelled {
        /// The guest.
        origin: String,
    },
}

impl Execution {
    /// Returns the engine.
    pub(crate) fn engine(&self) -> EngineName {
        match self {
            Self::Interpreted(_) => EngineName::WasmEdge,
            Self::Compiled { artifact, .. } => artifact.record().inputs.engine,
        }
    }

    /// Returns why the guest is interpreted, if its settings do not ask for that.
    pub(crate) fn needs_attention(&self) -> Option<&Interpreted> {
        match self {
            Self::Interpreted(
                why @ (Interpreted::CompileFailed(_) | Interpreted::Unavailable(_)),
            ) => Some(why),
            Self::Interpreted(_) | Self::Compiled { .. } => None,
        }
    }

    /// Returns what the guest's process loads. Blocks for a moment.
    ///
    /// # Errors
    /// If the artifact cannot be handed to it.
    pub(crate) fn code(&self) -> Result<Code, CreateError> {
        let unusable = |error: StoreError| CreateError::from(ArtifactError::Store(error));
        Ok(match self {
            Self::Interpreted(_) => Code::Module,
            Self::Compiled { artifact, .. } => match self.engine() {
                EngineName::WasmEdge => Code::WasmEdge {
                    folder: WireFd::new(artifact.folder_for_guest().map_err(unusable)?),
                },
                EngineName::Wasmtime => Code::Wasmtime {
                    file: WireFd::new(artifact.file_for_guest().map_err(unusable)?),
                },
            },
        })
    }

    /// Removes the artifact from its store if its engine does not load it. Blocks.
    pub(crate) fn discard_if_refused(self, error: &SandboxError) {
        if let (SandboxError::CodeRefused(_), Self::Compiled { artifact, store }) = (error, self) {
            let key = artifact.record().key;
            match store.discard(*artifact) {
                Ok(()) => {
                    tracing::error!(artifact = %key, "removed an artifact that does not load");
                }
                Err(error) => tracing::error!(
                    artifact = %key,
                    "cannot remove an artifact that does not load: {}",
                    chain(&error)
                ),
            }
        }
    }

    /// Returns the tier for logs.
    pub(crate) fn tier(&self) -> &'static str {
        match self {
            Self::Interpreted(_) => "interpreter",
            Self::Compiled { artifact, .. } => artifact.record().inputs.tier.as_str(),
        }
    }
}

impl Artifacts {
    /// Makes those of a host whose bundle is in the folder `bundle`.
    pub(crate) fn new(bundle: PathBuf, compiler: Compiler) -> Self {
        Self {
            bundle,
            identity: OnceLock::new(),
            stores: Stores::default(),
            jobs: Arc::new(Jobs::new(compiler)),
        }
    }

    /// Returns the jobs of this host.
    pub(crate) fn jobs(&self) -> &Arc<Jobs> {
        &self.jobs
    }
}

/// Returns the code that a guest runs; compiles it and waits by its settings.
///
/// # Errors
/// If there is none: the engine needs compiled code, and has none in time.
pub(crate) async fn choose(
    artifacts: &Arc<Artifacts>,
    wanted: Wanted<'_>,
) -> Result<Execution, CreateError> {
    let engine = plan::engine(&wanted.policy.settings);
    // Settings with this mode and Wasmtime are refused (`GuestSettings::resolve`).
    if wanted.policy.settings.mode == Mode::Interpreter {
        return Ok(Execution::Interpreted(Interpreted::Mode));
    }
    let shelf = match look(artifacts, wanted, engine).await? {
        Ok(shelf) => shelf,
        Err(reason) => return without_artifacts(wanted, reason),
    };
    let stored = |tier| shelf.stored(tier);
    let decision = plan::decide(engine, &wanted.policy.settings, wanted.purpose, stored);
    match decision.map_err(|source| cannot_run(wanted, source))? {
        Decision::Run { tier, next } => {
            shelf.compile(&next, Urgency::Background);
            shelf.run(tier)
        }
        Decision::Interpret { why, next } => {
            shelf.compile(&next, Urgency::Background);
            Ok(Execution::Interpreted(why))
        }
        Decision::Compile {
            tiers,
            wait,
            otherwise,
        } => shelf.compile_and_wait(&tiers, wait, otherwise).await,
    }
}

/// What the store has of a module.
struct Shelf<'a> {
    artifacts: &'a Arc<Artifacts>,
    wanted: Wanted<'a>,
    content: Content,
}

/// The store of a module's handler, and what it has of the module.
struct Content {
    store: Arc<Store>,
    /// The engine's tiers, the best first, down to the first that is stored.
    tiers: Vec<(KeyInputs, Found)>,
}

/// What a store has of one tier.
enum Found {
    Artifact(Box<Artifact>),
    Failure(String),
    Nothing,
}

/// Looks into the store; an error of it is a reason, not an error of the request.
async fn look<'a>(
    artifacts: &'a Arc<Artifacts>,
    wanted: Wanted<'a>,
    engine: EngineName,
) -> Result<Result<Shelf<'a>, String>, CreateError> {
    let shared = Arc::clone(artifacts);
    let (module, options) = (wanted.guest.digest, wanted.policy.options.handler.clone());
    let looked = blocking_set_up(move || Ok(shared.content(module, engine, &options))).await?;
    Ok(looked.map(|content| Shelf {
        artifacts,
        wanted,
        content,
    }))
}

impl Artifacts {
    /// Returns what the handler's store has of `module`. Blocks.
    fn content(
        &self,
        module: Digest,
        engine: EngineName,
        options: &HandlerOptions,
    ) -> Result<Content, String> {
        let identity = self
            .identity
            .get_or_init(|| Identity::of(&self.bundle, &Wasm::version(), &wasmtime_version()));
        let identity = identity.as_ref().map_err(|error| chain(error))?;
        let store = self.stores.of(options).map_err(|error| chain(&error))?;
        let mut tiers = Vec::new();
        for tier in plan::tiers(engine).iter().rev() {
            let inputs = identity.inputs(module, engine, *tier);
            let found = find(&store, &inputs).map_err(|error| chain(&error))?;
            let is_last = matches!(found, Found::Artifact(_));
            tiers.push((inputs, found));
            if is_last {
                break;
            }
        }
        Ok(Content { store, tiers })
    }
}

/// Wasmtime's version, with the build of this host, which alone loads its code.
fn wasmtime_version() -> String {
    format!("{} {}", Wasmtime::version(), Wasmtime::build())
}

fn find(store: &Store, inputs: &KeyInputs) -> Result<Found, StoreError> {
    let key = inputs.key();
    if let Some(artifact) = store.find(&key)? {
        return Ok(Found::Artifact(Box::new(artifact)));
    }
    let failure = store.failure(&key)?;
    Ok(failure.map_or(Found::Nothing, |failure| Found::Failure(failure.reason)))
}

impl Shelf<'_> {
    fn stored(&self, tier: Tier) -> Stored {
        let of_tier = |(inputs, _): &&(KeyInputs, Found)| inputs.tier == tier;
        match self.content.tiers.iter().find(of_tier) {
            Some((_, Found::Artifact(_))) => Stored::Artifact,
            Some((_, Found::Failure(reason))) => Stored::Failure(reason.clone()),
            // A tier below one that is stored was not looked up, and is not needed.
            Some((_, Found::Nothing)) | None => Stored::Nothing,
        }
    }

    /// Takes the artifact of a tier that is stored.
    fn run(self, tier: Tier) -> Result<Execution, CreateError> {
        let Content { store, tiers } = self.content;
        let found = tiers.into_iter().find(|(inputs, _)| inputs.tier == tier);
        match found {
            Some((_, Found::Artifact(artifact))) => Ok(Execution::Compiled { artifact, store }),
            _ => Err(CreateError::Panicked(format!(
                "the plan runs the tier {tier}, which is not stored"
            ))),
        }
    }

    /// Starts to compile these tiers, one after the other; returns a ticket of the first.
    fn compile(&self, tiers: &[Tier], urgency: Urgency) -> Option<Ticket> {
        let (first, next) = tiers.split_first()?;
        let of_tier = |(inputs, _): &&(KeyInputs, Found)| inputs.tier == *first;
        let (inputs, _) = self.content.tiers.iter().find(of_tier)?;
        let options = &self.wanted.policy.options.handler;
        let job = Job {
            store: Arc::clone(&self.content.store),
            inputs: inputs.clone(),
            next: next.to_vec(),
            module: self.wanted.guest.clone(),
            limits: Limits {
                cpu: Duration::from_secs(options.compile_cpu_seconds.into()),
                memory: u64::from(options.compile_memory_mib) << 20,
                output: u64::from(options.artifact_store_max_mib) << 20,
            },
            max_helpers: options.compile_jobs.into(),
            cgroup_driver: self.wanted.policy.options.cgroup_driver,
        };
        Some(self.artifacts.jobs.start(job, urgency))
    }

    /// Compiles `tiers` and waits for the first of them.
    async fn compile_and_wait(
        self,
        tiers: &[Tier],
        wait: Wait,
        otherwise: Otherwise,
    ) -> Result<Execution, CreateError> {
        let waited = match self.compile(tiers, Urgency::Start) {
            Some(ticket) => waited(ticket, wait).await,
            None => Waited::Finished(Finished::Unavailable(
                "nothing is to be compiled".to_owned(),
            )),
        };
        let (origin, engine) = (
            &self.wanted.guest.origin,
            plan::engine(&self.wanted.policy.settings),
        );
        let why = match waited {
            Waited::Finished(Finished::Stored) => {
                return match look(self.artifacts, self.wanted, engine).await? {
                    Ok(filled) => filled.run(tiers[0]),
                    Err(reason) => without_artifacts(self.wanted, reason),
                };
            }
            Waited::Cancelled => {
                let origin = origin.clone();
                return Err(ArtifactError::Cancelled { origin }.into());
            }
            Waited::TimedOut(waited) if otherwise == Otherwise::Refuse => {
                let origin = origin.clone();
                return Err(ArtifactError::StillCompiling { origin, waited }.into());
            }
            Waited::TimedOut(_) => Interpreted::NotCompiledYet,
            Waited::Finished(Finished::Failed(reason)) => Interpreted::CompileFailed(reason),
            Waited::Finished(Finished::Unavailable(reason)) => Interpreted::Unavailable(reason),
        };
        match (otherwise, why) {
            (Otherwise::Run(tier), _) => self.run(tier),
            (Otherwise::Interpret, why) => Ok(Execution::Interpreted(why)),
            (Otherwise::Refuse, Interpreted::CompileFailed(reason)) => {
                Err(cannot_run(self.wanted, CannotRun::CompileFailed { reason }))
            }
            (Otherwise::Refuse, why) => Err(cannot_run(
                self.wanted,
                CannotRun::Unavailable(why.to_string()),
            )),
        }
    }
}

/// The end of a wait for a job.
enum Waited {
    Finished(Finished),
    TimedOut(Duration),
    Cancelled,
}

async fn waited(mut ticket: Ticket, wait: Wait) -> Waited {
    let finished = async {
        match ticket
            .wait_for(Option::is_some)
            .await
            .map(|result| result.clone())
        {
            Ok(Some(finished)) => finished,
            // The job's sender is gone without a result.
            _ => Finished::Unavailable("the compilation ended without a result".to_owned()),
        }
    };
    let timeout = async {
        match wait {
            Wait::AtMost(time) => {
                tokio::time::sleep(time).await;
                time
            }
            Wait::ToItsEnd => std::future::pending().await,
        }
    };
    tokio::select! {
        finished = finished => Waited::Finished(finished),
        time = timeout => Waited::TimedOut(time),
        () = request::cancelled() => Waited::Cancelled,
    }
}

/// Returns the code of a guest on a node that can store no artifact, for this reason.
fn without_artifacts(wanted: Wanted<'_>, reason: String) -> Result<Execution, CreateError> {
    match plan::engine(&wanted.policy.settings) {
        EngineName::WasmEdge => Ok(Execution::Interpreted(Interpreted::Unavailable(reason))),
        EngineName::Wasmtime => Err(cannot_run(wanted, CannotRun::Unavailable(reason))),
    }
}

fn cannot_run(wanted: Wanted<'_>, source: CannotRun) -> CreateError {
    let origin = wanted.guest.origin.clone();
    ArtifactError::CannotRun { origin, source }.into()
}
