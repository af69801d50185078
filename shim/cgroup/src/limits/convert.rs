//! Conversion of cgroup v1 values, which the spec uses, to cgroup v2 values.

use std::ops::RangeInclusive;

/// The range of `cpu.shares`; the kernel clamps other values.
const SHARES: RangeInclusive<u64> = 2..=262_144;
/// The range of `blkio.weight`.
const BLOCK_IO_WEIGHT: RangeInclusive<u16> = 10..=1000;

/// Converts `cpu.shares` to `cpu.weight` (1 to 10000), as runc since 1.3.2 and crun since 1.23 do:
/// a curve through the two ends and the two defaults, 1024 shares being a weight of 100. (The
/// straight line of earlier releases gave 39, so a container with one CPU got less than a systemd
/// service.)
pub(super) fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(*SHARES.start(), *SHARES.end());
    let exponent = f64::from(u32::try_from(shares).expect("clamped to 18 bits")).log2();
    let power = (exponent * exponent + 125.0 * exponent) / 612.0 - 7.0 / 34.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the curve ends at 1 and 10000"
    )]
    let weight = 10_f64.powf(power).ceil() as u64;
    weight.clamp(1, 10_000)
}

/// Converts `blkio.weight` (10 to 1000) to `io.weight` (1 to 10000) on a straight line. None if the
/// weight is out of range.
pub(super) fn io_weight(weight: u16) -> Option<u64> {
    let above = u64::from(weight.checked_sub(*BLOCK_IO_WEIGHT.start())?);
    BLOCK_IO_WEIGHT
        .contains(&weight)
        .then(|| 1 + above * 9999 / 990)
}

/// Formats a limit in bytes (or of processes) for v2: -1 means no limit.
pub(super) fn limit(value: i64) -> Option<String> {
    match value {
        -1 => Some("max".to_owned()),
        value => u64::try_from(value).ok().map(|value| value.to_string()),
    }
}

/// Converts the spec's `swap`, which counts memory and swap together, to `memory.swap.max`, which
/// counts swap alone. `Ok(None)` means that nothing is to be written; the error is the reason of a
/// refusal.
pub(super) fn swap(swap: Option<i64>, limit: Option<i64>) -> Result<Option<String>, &'static str> {
    match (swap, limit) {
        // A client that removes the memory limit and knows v1 only means the limit of the sum as
        // well.
        (None, Some(-1)) | (Some(-1), _) => Ok(Some("max".to_owned())),
        (None, _) => Ok(None),
        (Some(swap), Some(-1)) if swap >= 0 => Ok(Some(swap.to_string())),
        (Some(_), None) => Err("a limit of memory and swap together needs a limit of memory"),
        (Some(swap), Some(limit)) if swap >= limit && limit >= 0 => {
            Ok(Some((swap - limit).to_string()))
        }
        (Some(_), Some(_)) => Err("memory and swap together are less than memory"),
    }
}
