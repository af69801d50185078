//! A limit of the address space (RLIMIT_AS) below what a process has when it is forked.
//!
//! With such a limit the process's stack cannot grow, and SIGSEGV ends it without an error text.

use std::fs;

use crate::error::SandboxError;
use crate::plan::{ProcessPlan, Resource};

/// Bytes that the stack and the set-up take in addition.
const MARGIN: u64 = 16 << 20;

/// Checks that the process `pid`, which runs a guest, can be given its limit.
///
/// # Errors
/// When the limit is too small.
pub(super) fn check(pid: u32, process: &ProcessPlan) -> Result<(), SandboxError> {
    let limit = process
        .rlimits
        .iter()
        .find(|limit| limit.resource == Resource::As);
    let Some(limit) = limit else { return Ok(()) };
    // Without the figure the process is not refused: the engine checks its own allocations.
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    match needed(&status) {
        Some(needed) if limit.soft < needed => Err(SandboxError::Refused(format!(
            "the container's RLIMIT_AS allows {} bytes of address space, and the engine alone \
             takes {needed}: raise or remove it",
            limit.soft
        ))),
        _ => Ok(()),
    }
}

/// Returns the bytes that a process with this `/proc/PID/status` needs.
fn needed(status: &str) -> Option<u64> {
    let size = status
        .lines()
        .find_map(|line| line.strip_prefix("VmSize:"))?;
    let kilobytes: u64 = size.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some((kilobytes << 10) + MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needed_address_space_is_that_of_the_process_and_a_margin() {
        let status = "Name:\tx\nVmPeak:\t   99 kB\nVmSize:\t   12 kB\n";
        assert_eq!(needed(status), Some((12 << 10) + MARGIN));
        assert_eq!(needed("Name:\tx\n"), None);
    }
}
