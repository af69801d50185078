//! Values of cgroup v1, which the spec speaks in, as values of cgroup v2.

use std::ops::RangeInclusive;

/// What `cpu.shares` may be; the kernel takes the nearest for others.
const SHARES: RangeInclusive<u64> = 2..=262_144;
/// What `blkio.weight` may be.
const BLOCK_IO_WEIGHT: RangeInclusive<u16> = 10..=1000;

/// `cpu.weight` (1 to 10000) for `cpu.shares`. As runc since 1.3.2 and crun since 1.23: a curve
/// through the two ends and the two defaults, 1024 shares being a weight of 100. (The straight line
/// of earlier releases gave 39, so that a container with one CPU got less than a service of
/// systemd's.)
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

/// `io.weight` (1 to 10000) for `blkio.weight` (10 to 1000), on a straight line. None if it is no
/// such weight.
pub(super) fn io_weight(weight: u16) -> Option<u64> {
    let above = u64::from(weight.checked_sub(*BLOCK_IO_WEIGHT.start())?);
    BLOCK_IO_WEIGHT
        .contains(&weight)
        .then(|| 1 + above * 9999 / 990)
}

/// A limit in bytes (or of processes) as v2 writes it: -1 is no limit.
pub(super) fn limit(value: i64) -> Option<String> {
    match value {
        -1 => Some("max".to_owned()),
        value => u64::try_from(value).ok().map(|value| value.to_string()),
    }
}

/// `memory.swap.max`, which counts swap alone, for the spec's `swap`, which counts memory and swap
/// together. Nothing is to be written for `Ok(None)`; the error says what is wrong.
pub(super) fn swap(swap: Option<i64>, limit: Option<i64>) -> Result<Option<String>, &'static str> {
    match (swap, limit) {
        // Who takes the limit off memory, and knows of v1 only, means the limit of the sum as well.
        (None, Some(-1)) | (Some(-1), _) => Ok(Some("max".to_owned())),
        (None, _) => Ok(None),
        (Some(swap), Some(-1)) if swap >= 0 => Ok(Some(swap.to_string())),
        (Some(_), None) => {
            Err("a limit of memory and swap says nothing of swap without the limit of memory")
        }
        (Some(swap), Some(limit)) if swap >= limit && limit >= 0 => {
            Ok(Some((swap - limit).to_string()))
        }
        (Some(_), Some(_)) => Err("memory and swap together are less than memory"),
    }
}
