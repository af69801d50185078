//! Clean-up on SIGINT, SIGTERM and SIGHUP: a thread waits for them, ends every run and exits with
//! 130.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Shared;
use crate::progress;

/// The shell's exit status of a program that Ctrl-C ended.
const INTERRUPTED_STATUS: i32 = 130;

static RUNS: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Registers `run` to be ended by a signal.
pub(super) fn end_on_signal(run: &Arc<Shared>) -> Result<()> {
    static STARTED: Once = Once::new();
    let mut result = Ok(());
    STARTED.call_once(|| {
        result = Signals::new([SIGINT, SIGTERM, SIGHUP])
            .context("take over SIGINT, SIGTERM and SIGHUP")
            .map(|signals| {
                std::thread::spawn(move || wait(signals));
            });
    });
    let mut runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
    runs.retain(|run| run.strong_count() > 0);
    runs.push(Arc::downgrade(run));
    result
}

/// Blocks forever after a signal: the process is about to end.
pub(super) fn wait_if_interrupted() {
    while INTERRUPTED.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

#[expect(
    clippy::exit,
    reason = "the main thread may be anywhere; this is what a signal's default action would do too"
)]
fn wait(mut signals: Signals) {
    for signal in &mut signals {
        // Further signals must not interrupt the clean-up; SIGKILL can, and the next run's sweep
        // then cleans up.
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            continue;
        }
        let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
        progress::print_line(format_args!("{name}: cleaning up"));
        std::thread::spawn(|| {
            let runs = std::mem::take(&mut *RUNS.lock().unwrap_or_else(PoisonError::into_inner));
            for run in runs.iter().rev().filter_map(Weak::upgrade) {
                if let Err(error) = run.end() {
                    progress::print_line(format_args!("warning: {error:#}"));
                }
            }
            std::process::exit(INTERRUPTED_STATUS);
        });
    }
}
