//! CPU time, on both versions.

use oci_spec::runtime::LinuxCpu;

use super::convert;
use super::draft::{CurrentFiles, Draft, given};
use crate::CgroupError;

const CPU: &str = "cpu";
const IDLE: &str = "linux.resources.cpu.idle";
const SHARES: &str = "linux.resources.cpu.shares";
const QUOTA: &str = "linux.resources.cpu.quota";
const PERIOD: &str = "linux.resources.cpu.period";
const BURST: &str = "linux.resources.cpu.burst";
const REALTIME_RUNTIME: &str = "linux.resources.cpu.realtimeRuntime";
const REALTIME_PERIOD: &str = "linux.resources.cpu.realtimePeriod";
/// The kernel's default, in µs.
const DEFAULT_PERIOD: u64 = 100_000;

pub(super) fn v1(
    cpu: &LinuxCpu,
    now: &dyn CurrentFiles,
    draft: &mut Draft,
) -> Result<(), CgroupError> {
    let idle = idle(cpu)?;
    shared(idle, draft, |draft| {
        if let Some(shares) = given(cpu.shares()) {
            draft.set(SHARES, CPU, "cpu.shares", shares);
        }
    });
    let realtime = Bandwidth {
        time: (
            REALTIME_RUNTIME,
            "cpu.rt_runtime_us",
            given(cpu.realtime_runtime()),
        ),
        period: (
            REALTIME_PERIOD,
            "cpu.rt_period_us",
            given(cpu.realtime_period()),
        ),
    };
    realtime.set(now, draft)?;
    let completely_fair = Bandwidth {
        time: (QUOTA, "cpu.cfs_quota_us", quota(cpu)),
        period: (PERIOD, "cpu.cfs_period_us", given(cpu.period())),
    };
    around_burst(cpu, "cpu.cfs_burst_us", now, draft, |draft| {
        completely_fair.set(now, draft)
    })?;
    last_idle(idle, draft);
    Ok(())
}

pub(super) fn v2(
    cpu: &LinuxCpu,
    now: &dyn CurrentFiles,
    draft: &mut Draft,
) -> Result<(), CgroupError> {
    if given(cpu.realtime_runtime()).is_some() {
        return Err(CgroupError::refused(
            REALTIME_RUNTIME,
            "cgroup v2 has no limits for real-time processes",
        ));
    }
    if given(cpu.realtime_period()).is_some() {
        return Err(CgroupError::refused(
            REALTIME_PERIOD,
            "cgroup v2 has no limits for real-time processes",
        ));
    }
    let idle = idle(cpu)?;
    shared(idle, draft, |draft| {
        if let Some(shares) = given(cpu.shares()) {
            draft.set(SHARES, CPU, "cpu.weight", convert::weight(shares));
        }
    });
    around_burst(cpu, "cpu.max.burst", now, draft, |draft| {
        let (quota, period) = (quota(cpu), given(cpu.period()));
        if quota.is_none() && period.is_none() {
            return Ok(());
        }
        let before = maximum(now.text(CPU, "cpu.max")?.as_deref());
        let quota_text = quota.map_or(before.quota, |quota| {
            u64::try_from(quota).map_or_else(|_| "max".to_owned(), |quota| quota.to_string())
        });
        let field = if quota.is_some() { QUOTA } else { PERIOD };
        draft.set(
            field,
            CPU,
            "cpu.max",
            format!("{quota_text} {}", period.unwrap_or(before.period)),
        );
        Ok(())
    })?;
    last_idle(idle, draft);
    Ok(())
}

/// The content of `cpu.max` of cgroup v2.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Maximum {
    pub(super) quota: String,
    pub(super) period: u64,
}

/// Parses the file; unreadable content counts as the default of a new cgroup.
pub(super) fn maximum(text: Option<&str>) -> Maximum {
    let mut words = text.unwrap_or_default().split_whitespace();
    let quota = words.next().unwrap_or("max").to_owned();
    Maximum {
        quota,
        period: words
            .next()
            .and_then(|word| word.parse().ok())
            .unwrap_or(DEFAULT_PERIOD),
    }
}

/// CPU time per period, which v1 has in two files.
struct Bandwidth {
    time: (&'static str, &'static str, Option<i64>),
    period: (&'static str, &'static str, Option<u64>),
}

impl Bandwidth {
    /// When both values change, first writes the one that makes the share smaller: the share in
    /// between must be one that the parent allows, and only the old and the new share are known to
    /// be.
    fn set(&self, now: &dyn CurrentFiles, draft: &mut Draft) -> Result<(), CgroupError> {
        let (time_field, time_file, time) = self.time;
        let (period_field, period_file, period) = self.period;
        let before = if time.is_some() && period.is_some() {
            now.number(CPU, period_file)?
        } else {
            None
        };
        let time_first = matches!((period, before), (Some(after), Some(before)) if after < before);
        let set_time =
            |draft: &mut Draft| time.map(|time| draft.set(time_field, CPU, time_file, time));
        if time_first {
            set_time(draft);
        }
        if let Some(period) = period {
            draft.set(period_field, CPU, period_file, period);
        }
        if !time_first {
            set_time(draft);
        }
        Ok(())
    }
}

/// Sets the burst before or after the quota: it may never exceed the quota.
fn around_burst(
    cpu: &LinuxCpu,
    file: &'static str,
    now: &dyn CurrentFiles,
    draft: &mut Draft,
    quota: impl FnOnce(&mut Draft) -> Result<(), CgroupError>,
) -> Result<(), CgroupError> {
    let Some(burst) = cpu.burst() else {
        return quota(draft);
    };
    let before = now.number(CPU, file)?;
    // A kernel without the file has no bursts, which is what 0 requests.
    let wanted = burst > 0 || before.is_some();
    let shrinks = before.is_some_and(|before| burst < before);
    if wanted && shrinks {
        draft.set(BURST, CPU, file, burst);
    }
    quota(draft)?;
    if wanted && !shrinks {
        draft.set(BURST, CPU, file, burst);
    }
    Ok(())
}

/// Returns the quota; a negative one means no quota and is written as -1.
fn quota(cpu: &LinuxCpu) -> Option<i64> {
    given(cpu.quota()).map(|quota| quota.max(-1))
}

/// Whether the cgroup gets only CPU time that no other cgroup wants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Idle {
    Unsaid,
    No,
    Yes,
}

fn idle(cpu: &LinuxCpu) -> Result<Idle, CgroupError> {
    match cpu.idle() {
        None => Ok(Idle::Unsaid),
        Some(0) => Ok(Idle::No),
        Some(1) => Ok(Idle::Yes),
        Some(other) => Err(CgroupError::refused(
            IDLE,
            format!("{other} is neither 0 nor 1"),
        )),
    }
}

/// Sets a weight, unless the cgroup is idle: the kernel refuses weights for idle cgroups.
fn shared(idle: Idle, draft: &mut Draft, weight: impl FnOnce(&mut Draft)) {
    match idle {
        Idle::Yes => {}
        Idle::No => {
            draft.set(IDLE, CPU, "cpu.idle", 0);
            weight(draft);
        }
        Idle::Unsaid => weight(draft),
    }
}

fn last_idle(idle: Idle, draft: &mut Draft) {
    if idle == Idle::Yes {
        draft.set(IDLE, CPU, "cpu.idle", 1);
    }
}
