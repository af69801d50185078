//! `containerd-shim-wasmedge-v1`: what containerd executes. It links neither an engine nor, when
//! built for a bundle, a C library, so each of its verbs costs a process start and no more.
//!
//! | verb | module | does |
//! |---|---|---|
//! | `start` | [`start`], [`spec`], [`bundle`] | finds or spawns the host of the container and prints its address |
//! | `delete` | [`delete`], [`remains`] | tells containerd how a task ended whose host is gone, and removes what it left |
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
mod remains;
mod info;

use flags::{Flags, Verb};

fn main() -> ExitCode {
    match run() {
        Ok(output) => match std::io::stdout().write_all(&output) {
            Ok(()) => ExitCode::SUCCESS,
            // Whoever asked is gone.
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
