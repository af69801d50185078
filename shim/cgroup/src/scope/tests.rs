//! Tests of limits as systemd properties.

use std::borrow::Cow;

use super::*;

fn settings(files: &[(&'static str, &str)]) -> Vec<Setting> {
    let setting = |(file, value): &(&'static str, &str)| Setting {
        field: Cow::Borrowed("a field"),
        controller: Cow::Borrowed("a controller"),
        file: Cow::Borrowed(*file),
        value: (*value).to_owned(),
    };
    files.iter().map(setting).collect()
}

#[test]
fn v2_limits_become_systemd_properties() {
    let settings = settings(&[
        ("cpu.weight", "100"),
        ("cpu.max", "50000 20000"),
        ("cpu.max.burst", "1"),
        ("memory.max", "4096"),
        ("memory.low", "1024"),
        ("memory.swap.max", "0"),
        ("pids.max", "max"),
        ("cpuset.cpus", "0,2-3,9"),
    ]);
    let expected = [
        Limit::Number("CPUWeight", 100),
        Limit::Number("CPUQuotaPerSecUSec", 2_500_000),
        Limit::Number("CPUQuotaPeriodUSec", 20_000),
        Limit::Number("MemoryMax", 4096),
        Limit::Number("MemoryLow", 1024),
        Limit::Number("MemorySwapMax", 0),
        Limit::Number("TasksMax", u64::MAX),
        Limit::Set("AllowedCPUs", vec![0b1101, 0b10]),
    ];
    assert_eq!(properties(&settings, Version::V2), expected);
}

#[test]
fn v1_limits_become_systemd_properties() {
    let files = [
        ("cpu.shares", "512"),
        ("cpu.cfs_period_us", "20000"),
        ("cpu.cfs_quota_us", "5000"),
        ("memory.limit_in_bytes", "-1"),
    ];
    let expected = [
        Limit::Number("CPUShares", 512),
        Limit::Number("MemoryLimit", u64::MAX),
        Limit::Number("CPUQuotaPerSecUSec", 250_000),
        Limit::Number("CPUQuotaPeriodUSec", 20_000),
    ];
    assert_eq!(properties(&settings(&files), Version::V1), expected);
}

#[test]
fn last_value_counts_if_a_file_is_written_twice() {
    let settings = settings(&[("memory.max", "4096"), ("memory.max", "max")]);
    assert_eq!(
        properties(&settings, Version::V2),
        [Limit::Number("MemoryMax", u64::MAX)]
    );
}

#[test]
fn quota_is_not_rounded_down() {
    let converted = |value| properties(&settings(&[("cpu.max", value)]), Version::V2);
    assert_eq!(
        converted("1 3000")[0],
        Limit::Number("CPUQuotaPerSecUSec", 334)
    );
    assert_eq!(
        converted("max 100000")[0],
        Limit::Number("CPUQuotaPerSecUSec", u64::MAX)
    );
}

#[test]
fn malformed_set_is_left_to_the_kernel() {
    for list in ["", "a", "3-1", "1-", "-1", "0-99999999999", "70000"] {
        assert_eq!(set("AllowedCPUs", list), [], "{list}");
    }
}
