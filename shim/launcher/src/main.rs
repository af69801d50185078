//! `containerd-shim-wasmedge-v1`, the launcher that containerd executes. It links neither an engine
//! nor, in a bundle, a C library, so each of its verbs costs only a process start.
//!
//! | verb | module | effect |
//! |---|---|---|
//! | `start` | [`start`], [`spec`], [`bundle`] | finds or spawns the container's host and prints its address |
//! | `delete` | [`delete`], [`cleanup`] | returns the exit status of a task after its host died, and cleans up |
//! | `-info` | [`info`] | name and version, for containerd |
//! | `-v` | [`info`] | the same, for people |
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

mod flags;
mod input;
mod spec;
mod start;
mod bundle;
mod delete;
mod cleanup;
mod info;

use flags::{Flags, Verb};

fn main() -> ExitCode {
    match run() {
        Ok(output) => match std::io::stdout().write_all(&output) {
            Ok(()) => ExitCode::SUCCESS,
            // The caller has closed its end.
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            // containerd shows standard error to the user.
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<Vec<u8>> {
    let flags = Flags::parse(std::env::args().skip(1))?;
    match flags.verb {
        Verb::Version => Ok(info::for_people()),
        Verb::Info => info::for_containerd(&input::read()?),
        Verb::Start => start::start(&flags),
        Verb::Delete => delete::delete(&flags),
    }
}
