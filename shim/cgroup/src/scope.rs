//! A container's cgroup as a systemd scope.
//!
//! systemd creates the cgroup around an existing process. Limits that systemd supports are set as
//! unit properties, because systemd writes its own values again whenever it reloads unit files.
//! Then all limits are written to the files as without systemd, which makes them exact where
//! systemd rounds or has no property.

use std::path::Path;
use std::time::Duration;

use oci_spec::runtime::LinuxResources;
use systemd_client::{Limit, Scope as Unit, Systemd, SystemdError};

use crate::cgroup::{Cgroup, join, make};
use crate::limits::{self, Occasion, Setting};
use crate::location::Scope;
use crate::{CgroupError, Version, files};

#[cfg(test)]
mod tests;

/// systemd's private socket for root, which needs no D-Bus daemon.
const SOCKET: &str = "/run/systemd/private";
/// How long stopping a scope may take. Its processes were killed before.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const MICROSECONDS: u64 = 1_000_000;

/// Creates the scope with a process in it, and sets the limits.
pub(crate) fn start(
    cgroup: &Cgroup,
    scope: &Scope,
    process: u32,
    resources: Option<&LinuxResources>,
) -> Result<(), CgroupError> {
    let mut systemd = connect(scope)?;
    let description = format!("container {}", scope.unit.trim_end_matches(".scope"));
    let unit = Unit {
        name: &scope.unit,
        slice: &scope.slice,
        description: &description,
        process,
    };
    systemd.start_scope(&unit).map_err(failed("start", scope))?;
    let limited = join_all_hierarchies(cgroup, process).and_then(|()| match resources {
        Some(resources) => apply_limits(&mut systemd, cgroup, scope, resources, Occasion::Creation),
        None => Ok(()),
    });
    if limited.is_err() {
        // The caller kills the process, because it cannot be contained; the scope ends with it.
        if let Err(error) = systemd.stop_scope(&scope.unit, STOP_TIMEOUT) {
            tracing::warn!(
                unit = scope.unit,
                %error,
                "cannot stop a scope after its limits could not be set"
            );
        }
    }
    limited
}

/// Checks that the process is in the expected cgroup of each hierarchy, and moves it in the
/// hierarchies that systemd does not manage.
fn join_all_hierarchies(cgroup: &Cgroup, process: u32) -> Result<(), CgroupError> {
    make::missing_folders(cgroup)?;
    for folder in cgroup.folders() {
        if !files::read(&folder.join(join::PROCESSES))?
            .lines()
            .any(|line| line == process.to_string())
        {
            join::enter(&folder, process)?;
        }
    }
    Ok(())
}

pub(crate) fn update(
    cgroup: &Cgroup,
    scope: &Scope,
    resources: &LinuxResources,
) -> Result<(), CgroupError> {
    apply_limits(
        &mut connect(scope)?,
        cgroup,
        scope,
        resources,
        Occasion::Update,
    )
}

/// Sets the limits that systemd supports as properties, then writes all of them to the files.
fn apply_limits(
    systemd: &mut Systemd,
    cgroup: &Cgroup,
    scope: &Scope,
    resources: &LinuxResources,
    occasion: Occasion,
) -> Result<(), CgroupError> {
    let settings = limits::settings(cgroup, resources, occasion)?;
    let known = properties(&settings, cgroup.hierarchies().version());
    if !known.is_empty() {
        systemd
            .set_limits(&scope.unit, &known)
            .map_err(failed("limit", scope))?;
    }
    limits::write(cgroup, settings)
}

/// Stops the scope. A scope that ended with its last process is not an error.
pub(crate) fn stop(scope: &Scope) -> Result<(), CgroupError> {
    connect(scope)?
        .stop_scope(&scope.unit, STOP_TIMEOUT)
        .map_err(failed("stop", scope))
}

fn connect(scope: &Scope) -> Result<Systemd, CgroupError> {
    Systemd::connect(Path::new(SOCKET)).map_err(failed("reach systemd for", scope))
}

fn failed(operation: &'static str, scope: &Scope) -> impl FnOnce(SystemdError) -> CgroupError {
    move |error| CgroupError::Systemd {
        operation,
        unit: scope.unit.clone(),
        source: error.into(),
    }
}

/// Converts writes to systemd properties. If a file is written twice, the last value counts.
fn properties(settings: &[Setting], version: Version) -> Vec<Limit> {
    let mut properties: Vec<Limit> = Vec::new();
    let of_files = settings
        .iter()
        .flat_map(|setting| property(&setting.file, &setting.value, version));
    for property in of_files.chain(v1_quota(settings)) {
        properties.retain(|other| name(other) != name(&property));
        properties.push(property);
    }
    properties
}

fn name(limit: &Limit) -> &'static str {
    match limit {
        Limit::Number(name, _) | Limit::Set(name, _) => name,
    }
}

/// Returns the properties for a file's value.
fn property(file: &str, value: &str, version: Version) -> Vec<Limit> {
    let name = match (version, file) {
        (_, "cpuset.cpus") => return set("AllowedCPUs", value),
        (_, "cpuset.mems") => return set("AllowedMemoryNodes", value),
        (_, "pids.max") => "TasksMax",
        (Version::V2, "cpu.max") => return quota(value),
        (Version::V2, "cpu.weight") => "CPUWeight",
        (Version::V2, "memory.max") => "MemoryMax",
        (Version::V2, "memory.high") => "MemoryHigh",
        (Version::V2, "memory.low") => "MemoryLow",
        (Version::V2, "memory.min") => "MemoryMin",
        (Version::V2, "memory.swap.max") => "MemorySwapMax",
        (Version::V1, "cpu.shares") => "CPUShares",
        (Version::V1, "memory.limit_in_bytes") => "MemoryLimit",
        _ => return Vec::new(),
    };
    // v1 writes -1 for no limit.
    let number = if value == "-1" {
        Some(u64::MAX)
    } else {
        files::parse(value)
    };
    number
        .map(|number| Limit::Number(name, number))
        .into_iter()
        .collect()
}

/// Converts `cpu.max` to time per second, rounded up so that no quota becomes smaller, and the
/// period.
fn quota(value: &str) -> Vec<Limit> {
    let mut words = value.split_whitespace().map(files::parse);
    let (Some(Some(quota)), Some(Some(period))) = (words.next(), words.next()) else {
        return Vec::new();
    };
    let per_second = match quota {
        u64::MAX => u64::MAX,
        quota => quota.saturating_mul(MICROSECONDS).div_ceil(period.max(1)),
    };
    vec![
        Limit::Number("CPUQuotaPerSecUSec", per_second),
        Limit::Number("CPUQuotaPeriodUSec", period),
    ]
}

/// Converts the quota of cgroup v1, which is in two files.
fn v1_quota(settings: &[Setting]) -> Vec<Limit> {
    let value = |file: &str| {
        settings
            .iter()
            .find(|setting| setting.file == file)
            .map(|setting| setting.value.as_str())
    };
    let Some(quota) = value("cpu.cfs_quota_us") else {
        return Vec::new();
    };
    let quota = if quota == "-1" { "max" } else { quota };
    self::quota(&format!(
        "{quota} {}",
        value("cpu.cfs_period_us").unwrap_or(DEFAULT_PERIOD)
    ))
}

/// In µs.
const DEFAULT_PERIOD: &str = "100000";

/// Parses a list such as `0,2-3` as a set. One that is not valid is left out: the kernel refuses it
/// with an error that names its file.
fn set(name: &'static str, list: &str) -> Vec<Limit> {
    let mut bits: Vec<u8> = Vec::new();
    for range in list.trim().split(',') {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (Ok(from), Ok(to)) = (from.trim().parse::<usize>(), to.trim().parse::<usize>()) else {
            return Vec::new();
        };
        if from > to || to >= MAX_CPUS {
            return Vec::new();
        }
        bits.resize(bits.len().max(to / 8 + 1), 0);
        for number in from..=to {
            bits[number / 8] |= 1 << (number % 8);
        }
    }
    vec![Limit::Set(name, bits)]
}

/// More processors than any kernel supports: a list from a spec must not cause large allocations.
const MAX_CPUS: usize = 1 << 16;
