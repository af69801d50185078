//! OOM kills of guests while they are loaded.
//!
//! Create succeeds all the same. The container exits when it is started, by SIGKILL and with an OOM
//! event, so Kubernetes shows `OOMKilled`. If Create failed, Kubernetes would show `StartError`.

use std::os::fd::OwnedFd;

use container_cgroup::Cgroup;
use container_io::Stdio;
use guest_sandbox::{Guest, Killed, SandboxError};

use crate::error::CreateError;
use crate::text::presentable_name;
use crate::workload::GuestModule;

/// The facts about a guest that is being loaded, for a report.
#[derive(Debug)]
pub(crate) struct Loading {
    origin: String,
    /// The size of the guest's file, in bytes.
    size: u64,
    /// The container's memory limit, in bytes.
    limit: Option<u64>,
    /// The container's standard error.
    stderr: Option<OwnedFd>,
    /// The OOM kills in the slice of its scope, before the guest is loaded.
    slice_oom_kills: Option<u64>,
}

impl Loading {
    /// Describes `guest` in a container with this memory limit, the streams `stdio` and the cgroup
    /// `cgroup`.
    ///
    /// # Errors
    /// If this process has no file descriptor left.
    pub(crate) fn new(
        guest: &GuestModule,
        limit: Option<u64>,
        stdio: &Stdio,
        cgroup: &Cgroup,
    ) -> Result<Self, CreateError> {
        let stderr = stdio.stderr.as_ref().or(stdio.terminal.as_ref());
        let stderr = stderr.map(OwnedFd::try_clone).transpose();
        Ok(Self {
            origin: guest.origin.clone(),
            size: guest.size,
            limit,
            stderr: stderr.map_err(CreateError::Descriptors)?,
            slice_oom_kills: cgroup.slice_oom_kills()?,
        })
    }

    /// Returns the guest of a killed process and writes the cause to the container's standard
    /// error, if it was an OOM kill.
    ///
    /// # Errors
    /// If another process killed it.
    pub(crate) fn report_oom(self, killed: Killed, cgroup: &Cgroup) -> Result<Guest, SandboxError> {
        if !self.is_oom_kill(cgroup) {
            return Err(SandboxError::Killed(killed));
        }
        let peak = cgroup.memory_peak().ok().flatten();
        let text = report(&self.origin, self.size, self.limit, peak);
        tracing::warn!("{text}");
        if let Some(stderr) = &self.stderr {
            // Nothing else was written to this stream, so a line fits in. If its reader is gone,
            // there is nothing to report to.
            let _ = rustix::io::write(stderr, format!("{text}\n").as_bytes());
        }
        Ok(killed.into_guest())
    }

    /// Returns whether the kernel killed the process for memory. If systemd has removed the scope
    /// with its count, a kill in the slice since then counts: the pod's other containers are in the
    /// slice too, but two kills within one set-up are unlikely.
    fn is_oom_kill(&self, cgroup: &Cgroup) -> bool {
        let in_slice = || {
            let now = cgroup.slice_oom_kills().ok().flatten();
            let counts = now.zip(self.slice_oom_kills);
            counts.is_some_and(|(now, before)| now > before)
        };
        cgroup.oom_kills().is_ok_and(|kills| kills > 0) || in_slice()
    }
}

fn report(origin: &str, size: u64, limit: Option<u64>, peak: Option<u64>) -> String {
    let exceeded = match limit {
        Some(limit) => format!("the container's memory limit of {}", in_units(limit)),
        None => "the memory that its pod or the node has".to_owned(),
    };
    let peak = peak.map_or_else(String::new, |peak| {
        format!(" ({} were in use)", in_units(peak))
    });
    format!(
        "{}: out of memory: the kernel killed the process that was loading the guest: to load {} \
         takes more than {exceeded}{peak}; raise resources.limits.memory, or make the guest \
         smaller (`wasm-opt -Oz`, `strip`)",
        presentable_name(origin),
        in_units(size)
    )
}

/// Formats a number of bytes in the largest fitting unit.
fn in_units(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    match bytes {
        0..KIB => format!("{bytes} bytes"),
        KIB..MIB => format!("{} KiB", bytes / KIB),
        _ => format!("{}.{} MiB", bytes / MIB, bytes % MIB * 10 / MIB),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oom_report_names_guest_limit_and_memory_in_use() {
        let limited = report("/app.wasm", 57 << 10, Some(1 << 20), Some(0xf_8000));
        let expected = "to load 57 KiB takes more than the container's memory limit of 1.0 MiB \
                        (992 KiB were in use); raise";
        assert!(
            limited.starts_with("/app.wasm: out of memory: "),
            "{limited}"
        );
        assert!(limited.contains(expected), "{limited}");
        let unlimited = report("/app.wasm", 12, None, None);
        let expected = "to load 12 bytes takes more than the memory that its pod or the node has;";
        assert!(unlimited.contains(expected), "{unlimited}");
    }
}
