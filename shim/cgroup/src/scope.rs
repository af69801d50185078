//! A container's cgroup as a scope of systemd's.
//!
//! systemd makes the cgroup around a process that is there already. It is told the limits that it
//! knows, because it writes its own again whenever it reads its unit files again; then all of them
//! are written as without systemd, which is the exact value also where systemd rounds or has no
//! word.

use std::path::Path;
use std::time::Duration;

use oci_spec::runtime::LinuxResources;
use systemd_client::{Limit, Scope as Unit, Systemd, SystemdError};

use crate::cgroup::{Cgroup, join, make};
use crate::limits::{self, Occasion, Setting};
use crate::place::Scope;
use crate::{CgroupError, Version, files};

#[cfg(test)]
mod tests;

/// Where systemd answers root, with or without a D-Bus daemon.
const SOCKET: &str = "/run/systemd/private";
/// How long a scope may take to stop. What is in it was killed before.
const STOP: Duration = Duration::from_secs(10);
const MICROSECONDS: u64 = 1_000_000;

/// Makes the scope with a process in it, and sets the limits.
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
    let limited = within(cgroup, process).and_then(|()| match resources {
        Some(resources) => limit(&mut systemd, cgroup, scope, resources, Occasion::Creation),
        None => Ok(()),
    });
    if limited.is_err() {
        // The process is the caller's, who ends it now that it cannot be contained; the scope goes
        // with it.
        if let Err(error) = systemd.stop_scope(&scope.unit, STOP) {
            tracing::warn!(unit = scope.unit, %error, "a scope that was made in vain stays");
        }
    }
    limited
}

/// Sees that the process came where the container's cgroup is expected, and into the hierarchies
/// that systemd leaves alone.
fn within(cgroup: &Cgroup, process: u32) -> Result<(), CgroupError> {
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
    limit(
        &mut connect(scope)?,
        cgroup,
        scope,
        resources,
        Occasion::Update,
    )
}

/// Tells systemd what it knows of these limits, then writes all of them.
fn limit(
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

/// Stops the scope; one that went with its last process is stopped.
pub(crate) fn stop(scope: &Scope) -> Result<(), CgroupError> {
    connect(scope)?
        .stop_scope(&scope.unit, STOP)
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

/// What is written, in systemd's words. Of a file that is written twice the last value counts.
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

/// The properties that stand for a file's value.
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

/// `cpu.max` in time per second, rounded up so that no quota becomes smaller, and the period.
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

/// The quota of cgroup v1, which is in two files.
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
        value("cpu.cfs_period_us").unwrap_or(KERNELS_PERIOD)
    ))
}

/// In µs.
const KERNELS_PERIOD: &str = "100000";

/// A list such as `0,2-3` as a set. One that cannot be read is left to the kernel, which refuses it
/// by its file.
fn set(name: &'static str, list: &str) -> Vec<Limit> {
    let mut bits: Vec<u8> = Vec::new();
    for range in list.trim().split(',') {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (Ok(from), Ok(to)) = (from.trim().parse::<usize>(), to.trim().parse::<usize>()) else {
            return Vec::new();
        };
        if from > to || to >= MOST {
            return Vec::new();
        }
        bits.resize(bits.len().max(to / 8 + 1), 0);
        for number in from..=to {
            bits[number / 8] |= 1 << (number % 8);
        }
    }
    vec![Limit::Set(name, bits)]
}

/// More processors than any kernel is built for: a list from a spec must not make us allocate what
/// it likes.
const MOST: usize = 1 << 16;
