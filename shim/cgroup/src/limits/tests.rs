//! The writes for each field, on both versions.

use std::collections::BTreeMap;

use oci_spec::runtime::LinuxResources;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::draft::CurrentFiles;
use super::*;

/// Content of a cgroup's files, by file name.
#[derive(Default)]
struct Files(BTreeMap<String, String>);

impl CurrentFiles for Files {
    fn text(&self, _: &str, file: &str) -> Result<Option<String>, CgroupError> {
        Ok(self.0.get(file).cloned())
    }
}

fn with(files: &[(&str, &str)]) -> Files {
    Files(
        files
            .iter()
            .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()))
            .collect(),
    )
}

fn resources(spec: Value) -> LinuxResources {
    serde_json::from_value(spec).unwrap()
}

type Written = Result<Vec<String>, String>;

fn written(settings: Result<Vec<Setting>, CgroupError>) -> Written {
    let line = |setting: Setting| format!("{}={}", setting.file, setting.value);
    settings
        .map(|settings| settings.into_iter().map(line).collect())
        .map_err(|error| error.to_string())
}

fn on_v1(spec: Value, before: &[(&str, &str)]) -> Written {
    written(v1::settings(
        &resources(spec),
        &with(before),
        Occasion::Creation,
    ))
}

fn on_v2(spec: Value, before: &[(&str, &str)]) -> Written {
    written(v2::settings(&resources(spec), &with(before)))
}

/// A row of the table: the spec, the files' content before, and the expected writes.
type Row<'a> = (Value, &'a [(&'a str, &'a str)], &'a [&'a str]);

fn check(on: fn(Value, &[(&str, &str)]) -> Written, rows: &[Row<'_>]) {
    for (spec, before, expected) in rows {
        assert_eq!(
            on(spec.clone(), before).as_deref(),
            Ok(&expected.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
            "{spec}"
        );
    }
}

fn refused(on: fn(Value, &[(&str, &str)]) -> Written, rows: &[(Value, &str)]) {
    for (spec, field) in rows {
        let answer = on(spec.clone(), &[]);
        assert!(
            answer
                .as_ref()
                .is_err_and(|message| message.starts_with(&format!(
                    "{field} cannot \
                                                            be honoured: "
                ))),
            "{spec}: {answer:?}"
        );
    }
}

const UNLIMITED: &str = "9223372036854771712\n";

#[test]
fn cpu_time_is_written_on_v1() {
    check(
        on_v1,
        &[
            (json!({"cpu": {"shares": 512}}), &[], &["cpu.shares=512"]),
            (
                json!({"cpu": {"cpus": "0-1", "mems": "0"}}),
                &[],
                &["cpuset.cpus=0-1", "cpuset.mems=0"],
            ),
            (
                json!({"cpu": {"quota": 50000, "period": 100_000}}),
                &[],
                &["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000"],
            ),
            (json!({"cpu": {"quota": -1}}), &[], &["cpu.cfs_quota_us=-1"]),
            (
                json!({"cpu": {"realtimeRuntime": 9, "realtimePeriod": 10}}),
                &[],
                &["cpu.rt_period_us=10", "cpu.rt_runtime_us=9"],
            ),
            (
                json!({"cpu": {"idle": 1, "shares": 512}}),
                &[],
                &["cpu.idle=1"],
            ),
            (
                json!({"cpu": {"idle": 0, "shares": 512}}),
                &[],
                &["cpu.idle=0", "cpu.shares=512"],
            ),
            (
                json!({"cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""}}),
                &[],
                &[],
            ),
        ],
    );
}

#[test]
fn cpu_time_is_written_on_v2() {
    check(
        on_v2,
        &[
            (json!({"cpu": {"shares": 1024}}), &[], &["cpu.weight=100"]),
            (
                json!({"cpu": {"cpus": "0-1", "mems": "0"}}),
                &[],
                &["cpuset.cpus=0-1", "cpuset.mems=0"],
            ),
            (
                json!({"cpu": {"quota": 50000, "period": 20000}}),
                &[],
                &["cpu.max=50000 20000"],
            ),
            (
                json!({"cpu": {"quota": 50000}}),
                &[("cpu.max", "max 25000\n")],
                &["cpu.max=50000 25000"],
            ),
            (
                json!({"cpu": {"period": 20000}}),
                &[("cpu.max", "5000 25000\n")],
                &["cpu.max=5000 20000"],
            ),
            (json!({"cpu": {"quota": -1}}), &[], &["cpu.max=max 100000"]),
            (
                json!({"cpu": {"idle": 1, "shares": 512}}),
                &[],
                &["cpu.idle=1"],
            ),
            (
                json!({"cpu": {"shares": 0, "quota": 0, "realtimeRuntime": 0}}),
                &[],
                &[],
            ),
        ],
    );
}

#[test]
fn quota_change_never_exceeds_old_and_new_share_in_between() {
    let both = json!({"cpu": {"quota": 5000, "period": 50000}});
    check(
        on_v1,
        &[
            (
                both.clone(),
                &[("cpu.cfs_period_us", "100000\n")],
                &["cpu.cfs_quota_us=5000", "cpu.cfs_period_us=50000"],
            ),
            (
                both,
                &[("cpu.cfs_period_us", "20000\n")],
                &["cpu.cfs_period_us=50000", "cpu.cfs_quota_us=5000"],
            ),
        ],
    );
}

#[test]
fn burst_never_exceeds_the_quota() {
    let spec = |burst: u64| json!({"cpu": {"quota": 50000, "period": 100_000, "burst": burst}});
    check(
        on_v2,
        &[
            (
                spec(100),
                &[("cpu.max.burst", "0\n")],
                &["cpu.max=50000 100000", "cpu.max.burst=100"],
            ),
            (
                spec(100),
                &[("cpu.max.burst", "90000\n")],
                &["cpu.max.burst=100", "cpu.max=50000 100000"],
            ),
            (spec(0), &[], &["cpu.max=50000 100000"]),
        ],
    );
    check(
        on_v1,
        &[(
            spec(100),
            &[
                ("cpu.cfs_burst_us", "90000\n"),
                ("cpu.cfs_period_us", "100000\n"),
            ],
            &[
                "cpu.cfs_burst_us=100",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
            ],
        )],
    );
}

#[test]
fn memory_is_written_on_v1() {
    let swap = |limit: &'static str| {
        [
            ("memory.limit_in_bytes", limit),
            ("memory.memsw.limit_in_bytes", UNLIMITED),
        ]
    };
    check(
        on_v1,
        &[
            (
                json!({"memory": {"limit": 4096}}),
                &[],
                &["memory.limit_in_bytes=4096"],
            ),
            (
                json!({"memory": {"limit": 4096, "reservation": 1024}}),
                &[],
                &[
                    "memory.limit_in_bytes=4096",
                    "memory.soft_limit_in_bytes=1024",
                ],
            ),
            (
                json!({"memory": {"limit": -1}}),
                &[],
                &["memory.limit_in_bytes=-1"],
            ),
            (
                json!({"memory": {"limit": -1}}),
                &swap("4096\n"),
                &["memory.memsw.limit_in_bytes=-1", "memory.limit_in_bytes=-1"],
            ),
            (
                json!({"memory": {"limit": 4096, "swap": 8192}}),
                &swap(UNLIMITED),
                &[
                    "memory.limit_in_bytes=4096",
                    "memory.memsw.limit_in_bytes=8192",
                ],
            ),
            (
                json!({"memory": {"limit": 4096, "swap": 8192}}),
                &swap("2048\n"),
                &[
                    "memory.memsw.limit_in_bytes=8192",
                    "memory.limit_in_bytes=4096",
                ],
            ),
            (
                json!({"memory": {"limit": 4096, "swap": -1}}),
                &swap("2048\n"),
                &[
                    "memory.memsw.limit_in_bytes=-1",
                    "memory.limit_in_bytes=4096",
                ],
            ),
            (
                json!({"memory": {"kernel": 4096, "kernelTCP": 1024}}),
                &[],
                &["memory.kmem.tcp.limit_in_bytes=1024"],
            ),
            (
                json!({"memory": {"swappiness": 0, "disableOOMKiller": true}}),
                &[],
                &["memory.swappiness=0", "memory.oom_control=1"],
            ),
            (
                json!({"memory": {"disableOOMKiller": false}}),
                &[("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n")],
                &[],
            ),
            (
                json!({"memory": {"disableOOMKiller": false}}),
                &[("memory.oom_control", "oom_kill_disable 1\n")],
                &["memory.oom_control=0"],
            ),
            (
                json!({"memory": {"limit": 0, "swap": 0, "swappiness": u64::MAX,
                    "useHierarchy": true}}),
                &[],
                &[],
            ),
        ],
    );
}

#[test]
fn memory_is_written_on_v2() {
    let counted = [("memory.swap.max", "max\n")];
    check(
        on_v2,
        &[
            (
                json!({"memory": {"limit": 4096, "reservation": 1024}}),
                &[],
                &["memory.max=4096", "memory.low=1024"],
            ),
            (
                json!({"memory": {"limit": 4096, "swap": 8192}}),
                &[],
                &["memory.swap.max=4096", "memory.max=4096"],
            ),
            (
                json!({"memory": {"limit": 4096, "swap": 4096}}),
                &counted,
                &["memory.swap.max=0", "memory.max=4096"],
            ),
            (
                json!({"memory": {"limit": 4096, "swap": 4096}}),
                &[],
                &["memory.max=4096"],
            ),
            (
                json!({"memory": {"limit": -1}}),
                &counted,
                &["memory.swap.max=max", "memory.max=max"],
            ),
            (json!({"memory": {"limit": -1}}), &[], &["memory.max=max"]),
            (
                json!({"memory": {"limit": 4096, "swap": 0, "kernel": 77}}),
                &counted,
                &["memory.max=4096"],
            ),
        ],
    );
}

#[test]
fn limit_below_usage_is_refused_with_check_before_update() {
    let spec = json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}});
    let message =
        "linux.resources.memory.limit cannot be honoured: 5000 bytes are in use, 4096 is less";
    assert_eq!(
        on_v1(spec.clone(), &[("memory.usage_in_bytes", "5000\n")]),
        Err(message.to_owned())
    );
    assert_eq!(
        on_v2(spec.clone(), &[("memory.current", "5000\n")]),
        Err(message.to_owned())
    );
    assert_eq!(
        on_v2(spec, &[("memory.current", "4000\n")]),
        Ok(vec!["memory.max=4096".to_owned()])
    );
}

#[test]
fn process_and_huge_page_limits_are_written() {
    for on in [on_v1, on_v2] {
        check(
            on,
            &[
                (json!({"pids": {"limit": 7}}), &[], &["pids.max=7"]),
                (json!({"pids": {"limit": -1}}), &[], &["pids.max=max"]),
                (json!({"pids": {"limit": 0}}), &[], &[]),
            ],
        );
    }
    let pages = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]});
    check(
        on_v1,
        &[(pages.clone(), &[], &["hugetlb.2MB.limit_in_bytes=0"])],
    );
    check(
        on_v2,
        &[(
            pages,
            &[("hugetlb.2MB.rsvd.max", "max\n")],
            &["hugetlb.2MB.max=0", "hugetlb.2MB.rsvd.max=0"],
        )],
    );
}

#[test]
fn block_io_limits_are_written() {
    let weights = json!({"blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0,
        "weight": 100}]}});
    let throttles = json!({"blockIO": {
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
        "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
        "throttleReadIOPSDevice": [{"major": 8, "minor": 16, "rate": 3}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}],
    }});
    check(
        on_v1,
        &[
            (
                weights.clone(),
                &[],
                &["blkio.bfq.weight=500", "blkio.bfq.weight_device=8:0 100"],
            ),
            (
                weights.clone(),
                &[("blkio.weight", ""), ("blkio.weight_device", "")],
                &["blkio.weight=500", "blkio.weight_device=8:0 100"],
            ),
            (
                json!({"blockIO": {"leafWeight": 10}}),
                &[],
                &["blkio.leaf_weight=10"],
            ),
            (
                throttles.clone(),
                &[],
                &[
                    "blkio.throttle.read_bps_device=8:0 1",
                    "blkio.throttle.write_bps_device=8:0 2",
                    "blkio.throttle.read_iops_device=8:16 3",
                    "blkio.throttle.write_iops_device=8:16 0",
                ],
            ),
        ],
    );
    check(
        on_v2,
        &[
            (
                weights.clone(),
                &[("io.bfq.weight", "default 100\n")],
                &["io.bfq.weight=500", "io.bfq.weight=8:0 100"],
            ),
            (
                json!({"blockIO": {"weight": 1000}}),
                &[],
                &["io.weight=10000"],
            ),
            (
                throttles,
                &[],
                &[
                    "io.max=8:0 rbps=1",
                    "io.max=8:0 wbps=2",
                    "io.max=8:16 riops=3",
                    "io.max=8:16 wiops=max",
                ],
            ),
        ],
    );
}

#[test]
fn rdma_network_and_unified_are_written() {
    let rdma = json!({"rdma": {"b0": {"hcaHandles": 3}, "a0": {"hcaHandles": 1, "hcaObjects": 2}}});
    for on in [on_v1, on_v2] {
        check(
            on,
            &[(
                rdma.clone(),
                &[],
                &[
                    "rdma.max=a0 hca_handle=1 hca_object=2",
                    "rdma.max=b0 hca_handle=3",
                ],
            )],
        );
    }
    let network = json!({"network": {"classID": 1_048_577, "priorities": [{"name": "eth0",
        "priority": 500}]}});
    check(
        on_v1,
        &[(
            network,
            &[],
            &["net_cls.classid=1048577", "net_prio.ifpriomap=eth0 500"],
        )],
    );
    let unified = json!({"memory": {"limit": 4096}, "unified": {"memory.max": "8192",
        "io.max": "8:0 rbps=1\n8:16 rbps=2", "cgroup.max.depth": "3"}});
    check(
        on_v2,
        &[(
            unified,
            &[],
            &[
                "memory.max=4096",
                "cgroup.max.depth=3",
                "io.max=8:0 rbps=1",
                "io.max=8:16 rbps=2",
                "memory.max=8192",
            ],
        )],
    );
}

#[test]
fn v1_devices_are_the_listed_and_the_default_ones() {
    let listed = json!({"devices": [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
        {"allow": true, "type": "b", "major": 8, "minor": -1, "access": "r"},
    ]});
    let mut expected = vec![
        "devices.deny=a".to_owned(),
        "devices.allow=c 10:229 rw".to_owned(),
        "devices.allow=b 8:* r".to_owned(),
    ];
    expected.extend(
        devices::DEFAULTS
            .iter()
            .map(|rule| format!("devices.allow={rule}")),
    );
    assert_eq!(on_v1(listed.clone(), &[]), Ok(expected));
    assert_eq!(on_v1(json!({"devices": []}), &[]), Ok(Vec::new()));
    // Access of a running container is not revoked and granted again.
    assert_eq!(
        written(v1::settings(
            &resources(listed.clone()),
            &with(&[]),
            Occasion::Update
        )),
        Ok(Vec::new())
    );
    // A guest's /dev has the default devices alone, so no rule is needed.
    assert_eq!(on_v2(listed, &[]), Ok(Vec::new()));
}

#[test]
fn values_that_no_version_supports_are_refused_by_field() {
    for on in [on_v1, on_v2] {
        refused(
            on,
            &[
                (json!({"cpu": {"idle": 2}}), "linux.resources.cpu.idle"),
                (
                    json!({"memory": {"limit": -2}}),
                    "linux.resources.memory.limit",
                ),
                (
                    json!({"memory": {"swappiness": 101}}),
                    "linux.resources.memory.swappiness",
                ),
                (
                    json!({"memory": {"useHierarchy": false}}),
                    "linux.resources.memory.useHierarchy",
                ),
                (
                    json!({"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}),
                    "linux.resources.hugepageLimits",
                ),
                (
                    json!({"devices": [{"allow": true, "type": "p", "access": "r"}]}),
                    "linux.resources.devices",
                ),
                (
                    json!({"devices": [{"allow": true, "type": "c", "major": -2, "access": "r"}]}),
                    "linux.resources.devices",
                ),
                (
                    json!({"devices": [{"allow": true, "type": "c", "access": "x"}]}),
                    "linux.resources.devices",
                ),
                (
                    json!({"devices": [{"allow": true, "type": "a", "major": 1, "access": "rwm"}]}),
                    "linux.resources.devices",
                ),
                (
                    json!({"devices": [{"allow": true, "access": "r"}]}),
                    "linux.resources.devices",
                ),
            ],
        );
    }
}

#[test]
fn values_of_the_other_version_are_refused_by_field() {
    refused(
        on_v1,
        &[(
            json!({"unified": {"memory.high": "1"}}),
            "linux.resources.unified",
        )],
    );
    refused(
        on_v2,
        &[
            (
                json!({"cpu": {"realtimeRuntime": 1}}),
                "linux.resources.cpu.realtimeRuntime",
            ),
            (
                json!({"cpu": {"realtimePeriod": 1}}),
                "linux.resources.cpu.realtimePeriod",
            ),
            (
                json!({"memory": {"kernelTCP": 1}}),
                "linux.resources.memory.kernelTCP",
            ),
            (
                json!({"memory": {"swappiness": 60}}),
                "linux.resources.memory.swappiness",
            ),
            (
                json!({"memory": {"disableOOMKiller": true}}),
                "linux.resources.memory.disableOOMKiller",
            ),
            (
                json!({"memory": {"swap": 8192}}),
                "linux.resources.memory.swap",
            ),
            (
                json!({"memory": {"limit": 8192, "swap": 4096}}),
                "linux.resources.memory.swap",
            ),
            (
                json!({"blockIO": {"leafWeight": 10}}),
                "linux.resources.blockIO.leafWeight",
            ),
            (
                json!({"blockIO": {"weight": 5}}),
                "linux.resources.blockIO.weight",
            ),
            (
                json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 1}]}}),
                "linux.resources.blockIO.weightDevice",
            ),
            (
                json!({"network": {"classID": 1}}),
                "linux.resources.network.classID",
            ),
            (
                json!({"network": {"priorities": [{"name": "eth0", "priority": 1}]}}),
                "linux.resources.network.priorities",
            ),
            (
                json!({"unified": {"memory": "1"}}),
                r#"linux.resources.unified["memory"]"#,
            ),
            (
                json!({"unified": {"memory.max/../x": "1"}}),
                r#"linux.resources.unified["memory.max/../x"]"#,
            ),
            (
                json!({"unified": {"cgroup.procs": "1"}}),
                r#"linux.resources.unified["cgroup.procs"]"#,
            ),
            (
                json!({"unified": {".": "1"}}),
                r#"linux.resources.unified["."]"#,
            ),
        ],
    );
}

#[test]
fn v1_weights_convert_to_v2_weights() {
    // The table of runc 1.3.2.
    for (shares, weight) in [
        (0, 1),
        (1, 1),
        (2, 1),
        (1024, 100),
        (4096, 303),
        (262_144, 10_000),
        (262_145, 10_000),
        (u64::MAX, 10_000),
    ] {
        assert_eq!(convert::weight(shares), weight, "{shares} shares");
    }
    for (weight, converted) in [
        (9, None),
        (10, Some(1)),
        (100, Some(910)),
        (1000, Some(10_000)),
        (1001, None),
    ] {
        assert_eq!(convert::io_weight(weight), converted, "weight {weight}");
    }
}

proptest! {
    #[test]
    fn more_shares_never_give_less_weight(one in any::<u64>(), other in 0..300_000_u64) {
        let (less, more) = (one.min(other), one.max(other));
        prop_assert!(convert::weight(less) <= convert::weight(more));
        prop_assert!((1..=10_000).contains(&convert::weight(one)));
    }

    #[test]
    fn more_v1_weight_never_gives_less_v2_weight(one in 10..=1000_u16, other in 10..=1000_u16) {
        let (less, more) = (one.min(other), one.max(other));
        prop_assert!(convert::io_weight(less) <= convert::io_weight(more));
    }

    /// Where the spec has both, memory and swap together stay its sum.
    #[test]
    fn swap_is_the_sum_minus_memory(limit in 1..i64::MAX, sum in 1..i64::MAX) {
        match convert::swap(Some(sum), Some(limit)) {
            Ok(Some(swap)) => prop_assert_eq!(swap.parse::<i64>().unwrap() + limit, sum),
            Ok(None) => prop_assert!(false, "a given swap must be written"),
            Err(_) => prop_assert!(sum < limit),
        }
    }

    /// No spec makes the conversion panic, and every write is to a file of its controller.
    #[test]
    fn no_values_cause_writes_outside_the_cgroup(
        limit in any::<i64>(), swap in any::<i64>(), quota in any::<i64>(), period in any::<u64>(),
            burst in any::<u64>(),
        shares in any::<u64>(), pids in any::<i64>(), key in ".{0,12}",
    ) {
        let spec = resources(json!({
            "memory": {"limit": limit, "swap": swap}, "pids": {"limit": pids},
            "cpu": {"quota": quota, "period": period, "burst": burst, "shares": shares},
        }));
        let keyed = resources(json!({"unified": {key: "1"}}));
        let plans = [v1::settings(&spec, &with(&[]), Occasion::Creation), v2::settings(&spec,
            &with(&[])), v2::settings(&keyed, &with(&[]))];
        for setting in plans.into_iter().flatten().flatten() {
            prop_assert!(!setting.file.contains('/') &&
                setting.file.starts_with(&*setting.controller), "{:?}", setting);
        }
    }
}
