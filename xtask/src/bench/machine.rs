//! The properties of the machine that its figures depend on.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use testbed::command::Run;

use crate::setup;

/// The machine and software of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) cores: usize,
    /// In GiB.
    pub(super) memory: f64,
    pub(super) kernel: String,
    /// The version of cgroups.
    pub(super) cgroups: String,
    /// containerd's version.
    pub(super) containerd: String,
    /// cargo's profile of our programs.
    pub(super) profile: String,
}

impl Machine {
    /// Describes this machine, with a containerd of this version.
    pub(super) fn here(containerd: &str) -> Result<Self> {
        let read = |file: &str| fs::read_to_string(file).with_context(|| format!("read {file}"));
        let version = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            "cgroup v2"
        } else {
            "cgroup v1"
        };
        Ok(Self {
            processor: processor(&read("/proc/cpuinfo")?),
            cores: std::thread::available_parallelism()
                .context("count the cores")?
                .get(),
            memory: memory(&read("/proc/meminfo")?).context("/proc/meminfo names no MemTotal")?,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            cgroups: version.to_owned(),
            containerd: containerd.to_owned(),
            profile: setup::profile()?,
        })
    }
}

/// Returns today's date in UTC.
pub(super) fn today() -> Result<String> {
    Run::new("date").args(["--utc", "+%Y-%m-%d"]).text()
}

fn processor(text: &str) -> String {
    let named = |field: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(field)?.trim_start().strip_prefix(':'))
    };
    // Arm's processors have no name there.
    named("model name").map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |name| name.trim().to_owned(),
    )
}

fn memory(text: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u32 = line.split_whitespace().next()?.parse().ok()?;
    Some(f64::from(kibibytes) / (1024.0 * 1024.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_has_its_name_if_the_kernel_has_one() {
        assert_eq!(
            processor("processor\t: 0\nmodel name\t: A B @ 2 GHz\n"),
            "A B @ 2 GHz"
        );
        assert_eq!(processor("processor\t: 0\n"), std::env::consts::ARCH);
    }

    #[test]
    fn memory_is_in_gibibytes() {
        assert_eq!(
            memory("MemTotal:       2097152 kB\nMemFree: 1 kB\n"),
            Some(2.0)
        );
        assert_eq!(memory(""), None);
    }
}
