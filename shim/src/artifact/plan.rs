//! The decision which code a guest runs: pure.
//!
//! ```text
//!            best tier stored        worse tier stored        nothing stored
//! never      run it                  run it                   interpret, or refuse
//! tiered     run it                  run it, improve          compile the first tier, for a while
//! wait       run it                  compile the best one     compile the best one, to its end
//! ```
//!
//! "Interpret, or refuse" depends on the engine: WasmEdge interprets, Wasmtime cannot.

use std::time::Duration;

use artifact_store::{EngineName, Tier};
use runtime_options::{CompilePolicy, EngineChoice, GuestSettings};
use thiserror::Error;

/// The tiers of an engine, from the one that is compiled first to the best.
pub(crate) fn tiers(engine: EngineName) -> &'static [Tier] {
    match engine {
        EngineName::WasmEdge => &[Tier::Baseline, Tier::Optimized],
        EngineName::Wasmtime => &[Tier::Optimized],
    }
}

/// What the store has of one tier of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    /// An artifact.
    Artifact,
    /// Nothing.
    Nothing,
    /// The failure of an earlier compilation, with its reason.
    Failure(String),
}

/// The process that is to run the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A container's first process.
    Container,
    /// A process that exec adds. A probe starts one every few seconds and waits for a second: it
    /// does not wait for a compilation that it can do without.
    Exec,
}

/// The engine of a guest.
pub(crate) fn engine(settings: &GuestSettings) -> EngineName {
    match settings.engine {
        EngineChoice::Auto | EngineChoice::WasmEdge => EngineName::WasmEdge,
        EngineChoice::Wasmtime => EngineName::Wasmtime,
    }
}

/// The code that a guest runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Run the stored artifact of `tier`, and compile the tiers of `next` in the background.
    Run {
        /// The artifact's tier.
        tier: Tier,
        /// The better tiers that are worth compiling.
        next: Vec<Tier>,
    },
    /// Interpret the module, and compile the tiers of `next` in the background.
    Interpret {
        /// The reason for the log.
        why: Interpreted,
        /// The tiers that are worth compiling.
        next: Vec<Tier>,
    },
    /// Compile the first of `tiers` and wait; then compile the others in the background.
    Compile {
        /// The tiers to compile, in this order.
        tiers: Vec<Tier>,
        /// How long the start waits.
        wait: Wait,
        /// What happens if there is no artifact in time.
        otherwise: Otherwise,
    },
}

/// How long a start waits for a compilation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// At most this long.
    AtMost(Duration),
    /// Until the compilation ends, whose time is bounded.
    ToItsEnd,
}

/// What happens if a compilation does not give an artifact in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Otherwise {
    /// The stored artifact of this worse tier runs.
    Run(Tier),
    /// The module is interpreted.
    Interpret,
    /// The start fails: the engine has no interpreter.
    Refuse,
}

/// The reason why a module is interpreted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Interpreted {
    /// `mode` is `interpreter`.
    Mode,
    /// `compile` is `never`, and the store has no artifact.
    NeverCompiled,
    /// The start does not wait.
    NotCompiledYet,
    /// The compilation failed, for this reason.
    CompileFailed(String),
    /// The node cannot compile or store artifacts now, for this reason.
    Unavailable(String),
}

/// The settings ask for what the engine cannot do.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum CannotRun {
    /// Nothing is stored, and nothing may be compiled.
    #[error(
        "the module is not compiled on this node, and the setting compile=never forbids to \
         compile it for wasmtime: set compile=tiered or compile=wait, or engine=wasmedge"
    )]
    NeverCompiled,
    /// The node cannot compile or store artifacts now, and the engine has no interpreter.
    #[error(
        "wasmtime needs compiled code, and the node has none: {0}; mend that, or set \
         engine=wasmedge"
    )]
    Unavailable(String),
    /// The compilation failed, and the engine has no interpreter.
    #[error(
        "the module cannot be compiled for wasmtime: {reason}; set engine=wasmedge, which can \
         interpret it, or mend the module (`artifacts remove` on the node allows another try)"
    )]
    CompileFailed {
        /// The reason of the failure.
        reason: String,
    },
}

/// Decides which code a guest that is to be compiled runs on `engine`; `stored` returns what the
/// store has of a tier.
///
/// # Errors
/// If the engine cannot do what `settings` ask for.
pub(crate) fn decide(
    engine: EngineName,
    settings: &GuestSettings,
    purpose: Purpose,
    stored: impl Fn(Tier) -> Stored,
) -> Result<Decision, CannotRun> {
    let tiers = tiers(engine);
    let best_stored = tiers
        .iter()
        .rposition(|tier| stored(*tier) == Stored::Artifact);
    // A tier above a failed one is not tried: the same compiler reads the same module.
    let failure = tiers.iter().find_map(|tier| match stored(*tier) {
        Stored::Failure(reason) => Some(reason),
        Stored::Artifact | Stored::Nothing => None,
    });
    let missing: Vec<Tier> = if failure.is_some() {
        Vec::new()
    } else {
        tiers[best_stored.map_or(0, |at| at + 1)..].to_vec()
    };
    let run = best_stored.map(|at| tiers[at]);
    match (settings.compile, run) {
        (CompilePolicy::Never, Some(tier)) => Ok(Decision::Run {
            tier,
            next: Vec::new(),
        }),
        (CompilePolicy::Never, None) => match engine {
            EngineName::WasmEdge => Ok(interpret(Interpreted::NeverCompiled, Vec::new())),
            EngineName::Wasmtime => Err(CannotRun::NeverCompiled),
        },
        (CompilePolicy::Tiered, Some(tier)) => Ok(Decision::Run {
            tier,
            next: missing,
        }),
        (CompilePolicy::Tiered, None) | (CompilePolicy::Wait, _) => {
            compile(engine, settings, purpose, run, missing, failure)
        }
    }
}

fn compile(
    engine: EngineName,
    settings: &GuestSettings,
    purpose: Purpose,
    run: Option<Tier>,
    missing: Vec<Tier>,
    failure: Option<String>,
) -> Result<Decision, CannotRun> {
    let Some(best) = missing.last() else {
        return match (run, failure, engine) {
            (Some(tier), _, _) => Ok(Decision::Run {
                tier,
                next: missing,
            }),
            (None, Some(reason), EngineName::WasmEdge) => {
                Ok(interpret(Interpreted::CompileFailed(reason), Vec::new()))
            }
            (None, reason, _) => Err(CannotRun::CompileFailed {
                reason: reason.unwrap_or_default(),
            }),
        };
    };
    let otherwise = match (run, engine) {
        (Some(tier), _) => Otherwise::Run(tier),
        (None, EngineName::WasmEdge) => Otherwise::Interpret,
        (None, EngineName::Wasmtime) => Otherwise::Refuse,
    };
    let (tiers, wait) = match settings.compile {
        CompilePolicy::Wait => (vec![*best], Wait::ToItsEnd),
        CompilePolicy::Tiered | CompilePolicy::Never => {
            (missing.clone(), Wait::AtMost(settings.compile_wait))
        }
    };
    let does_wait = wait != Wait::AtMost(Duration::ZERO) && purpose == Purpose::Container;
    match otherwise {
        Otherwise::Run(tier) if !does_wait => Ok(Decision::Run {
            tier,
            next: missing,
        }),
        Otherwise::Interpret if !does_wait => Ok(interpret(Interpreted::NotCompiledYet, missing)),
        otherwise => Ok(Decision::Compile {
            tiers,
            wait,
            otherwise,
        }),
    }
}

fn interpret(why: Interpreted, next: Vec<Tier>) -> Decision {
    Decision::Interpret { why, next }
}

impl std::fmt::Display for Interpreted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mode => f.write_str("the setting mode is interpreter"),
            Self::NeverCompiled => {
                f.write_str("it is not compiled on this node, and the setting compile is never")
            }
            Self::NotCompiledYet => f.write_str("it is being compiled in the background"),
            Self::CompileFailed(reason) => write!(f, "it cannot be compiled: {reason}"),
            Self::Unavailable(reason) => write!(f, "the node cannot compile it now: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests;
