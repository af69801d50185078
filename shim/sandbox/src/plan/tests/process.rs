//! Privileges of the process.

use super::*;

const DAC_OVERRIDE: u64 = 1 << 1;
const FOWNER: u64 = 1 << 3;
const NET_BIND_SERVICE: u64 = 1 << 10;
const SYS_ADMIN: u64 = 1 << 21;

fn process(says: &Value) -> ProcessPlan {
    plan(json!({"process": says})).process
}

/// Returns the plan for an `exec` of a Linux program.
fn native(says: &Value) -> ProcessPlan {
    let spec = spec(json!({"process": says}));
    ProcessPlan::of(
        spec.process().as_ref().unwrap(),
        None,
        WorkloadKind::Native,
        HARDENED,
        &FILTERS,
    )
    .unwrap()
}

fn capabilities(bounding: &[&str], effective: &[&str], ambient: &[&str]) -> Value {
    json!({"bounding": bounding, "effective": effective, "permitted": effective,
        "inheritable": ambient, "ambient": ambient})
}

#[test]
fn process_has_the_ids_of_the_spec() {
    let plan = process(
        &json!({"user": {"uid": 1000, "gid": 1001, "additionalGids": [7, 8], "umask": 0o077}}),
    );
    assert_eq!(
        (plan.uid, plan.gid, plan.groups, plan.umask),
        (1000, 1001, vec![7, 8], 0o077)
    );
    let plan = process(&json!({}));
    assert_eq!(
        (plan.uid, plan.gid, plan.groups, plan.umask),
        (0, 0, vec![], 0o022)
    );
}

#[test]
fn guest_keeps_only_capabilities_that_it_can_use() {
    let all = [
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_ADMIN",
        "CAP_CHOWN",
        "CAP_NET_RAW",
        "CAP_SETUID",
    ];
    let kept = DAC_OVERRIDE | FOWNER | NET_BIND_SERVICE;
    let sets = process(&json!({"capabilities": capabilities(&all, &all, &[])})).capabilities;
    assert_eq!(
        sets,
        CapabilitySets {
            bounding: kept,
            effective: kept,
            permitted: kept,
            inheritable: 0,
            ambient: 0
        }
    );
    let fewer =
        process(&json!({"capabilities": capabilities(&["CAP_FOWNER"], &all, &[])})).capabilities;
    assert_eq!(
        (fewer.bounding, fewer.effective, fewer.permitted),
        (FOWNER, FOWNER, FOWNER),
        "never beyond what is bounding"
    );
    assert_eq!(process(&json!({})).capabilities, CapabilitySets::default());
}

#[test]
fn guest_that_is_not_root_has_ambient_capabilities_only() {
    let usual = ["CAP_DAC_OVERRIDE", "CAP_NET_BIND_SERVICE"];
    let user = json!({"uid": 1000, "gid": 1000});
    let none = process(&json!({"user": user, "capabilities": capabilities(&usual, &usual, &[])}))
        .capabilities;
    assert_eq!(
        none,
        CapabilitySets::default(),
        "execve would have taken them"
    );
    let ambient = process(
        &json!({"user": user, "capabilities": capabilities(&usual, &usual,
        &["CAP_NET_BIND_SERVICE"])}),
    )
    .capabilities;
    assert_eq!(
        (ambient.effective, ambient.permitted),
        (NET_BIND_SERVICE, NET_BIND_SERVICE)
    );
}

#[test]
fn linux_program_gets_the_capabilities_of_the_spec() {
    let sets = native(
        &json!({"capabilities": capabilities(&["CAP_SYS_ADMIN", "CAP_FOWNER"], &["CAP_SYS_ADMIN"],
            &["CAP_FOWNER"])}),
    );
    let expected = CapabilitySets {
        bounding: SYS_ADMIN | FOWNER,
        effective: SYS_ADMIN,
        permitted: SYS_ADMIN,
        inheritable: FOWNER,
        ambient: FOWNER,
    };
    assert_eq!(sets.capabilities, expected);
}

#[test]
fn every_capability_has_the_kernels_number() {
    // From linux/capability.h, in the order of the numbers.
    let names = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP \
                 LINUX_IMMUTABLE NET_BIND_SERVICE \
                 NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO \
                 SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN \
                 SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE \
                 AUDIT_CONTROL SETFCAP MAC_OVERRIDE \
                 MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF \
                 CHECKPOINT_RESTORE";
    for (number, name) in names.split_whitespace().enumerate() {
        let name = format!("CAP_{name}");
        let sets = native(&json!({"capabilities": capabilities(&[&name], &[], &[])})).capabilities;
        assert_eq!(sets.bounding, 1 << number, "{name}");
    }
}

#[test]
fn guest_never_gets_new_privileges() {
    assert_eq!(process(&json!({})).no_new_privileges, NoNewPrivileges::Set);
    assert_eq!(
        process(&json!({"noNewPrivileges": false})).no_new_privileges,
        NoNewPrivileges::Set
    );
    assert_eq!(
        native(&json!({"noNewPrivileges": false})).no_new_privileges,
        NoNewPrivileges::Unset
    );
    assert_eq!(
        native(&json!({"noNewPrivileges": true})).no_new_privileges,
        NoNewPrivileges::Set
    );
}

#[test]
fn every_limit_of_the_spec_is_set() {
    let names = [
        "CPU",
        "FSIZE",
        "DATA",
        "STACK",
        "CORE",
        "RSS",
        "NPROC",
        "NOFILE",
        "MEMLOCK",
        "AS",
        "LOCKS",
        "SIGPENDING",
        "MSGQUEUE",
        "NICE",
        "RTPRIO",
        "RTTIME",
    ];
    let limits: Vec<_> = names
        .iter()
        .map(|name| json!({"type": format!("RLIMIT_{name}"), "soft": 1, "hard": u64::MAX}))
        .collect();
    let taken = process(&json!({"rlimits": limits})).rlimits;
    // The order above is that of the kernel's numbers.
    for (number, limit) in taken.iter().enumerate() {
        assert_eq!(limit.resource.kernel() as usize, number, "{limit:?}");
        assert_eq!((limit.soft, limit.hard), (1, u64::MAX));
    }
    assert_eq!(taken.len(), names.len());
}

#[test]
fn contradicting_limits_are_refused() {
    let limit = |soft: u64, hard: u64| json!({"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard});
    let refused = |limits: Value| refusal(json!({"process": {"rlimits": limits}})).0;
    assert_eq!(
        refused(json!([limit(1, 1), limit(2, 2)])),
        "process.rlimits[1]"
    );
    assert_eq!(refused(json!([limit(2, 1)])), "process.rlimits[0]");
}

#[test]
fn oom_score_is_set_or_refused() {
    assert_eq!(process(&json!({})).oom_score_adj, None);
    assert_eq!(
        process(&json!({"oomScoreAdj": -997})).oom_score_adj,
        Some(-997)
    );
    assert_eq!(
        refusal(json!({"process": {"oomScoreAdj": 1001}})).0,
        "process.oomScoreAdj"
    );
}

#[test]
fn profile_needs_a_kernel_with_apparmor() {
    let says = |profile: &str| json!({"process": {"apparmorProfile": profile}});
    assert_eq!(
        plan(says("cri-containerd.apparmor.d"))
            .process
            .apparmor
            .as_deref(),
        Some("cri-containerd.apparmor.d")
    );
    assert_eq!(
        plan_on(PLAIN, says("unconfined")).unwrap().process.apparmor,
        None
    );
    assert_eq!(plan_on(PLAIN, says("")).unwrap().process.apparmor, None);
    assert_eq!(
        plan_on(PLAIN, says("cri-containerd.apparmor.d"))
            .unwrap_err()
            .field,
        "process.apparmorProfile"
    );
}

#[test]
fn guest_has_our_filter_and_then_the_specs() {
    let says = json!({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}});
    let filters = plan(says.clone()).process.filters;
    assert_eq!(filters.len(), 2);
    assert_eq!(filters[0], FILTERS.engine());
    assert_eq!(plan(json!({})).process.filters, [FILTERS.engine()]);
    assert_eq!(native(&json!({})).filters, []);

    let without = KernelFeatures {
        seccomp: Support::Absent,
        ..PLAIN
    };
    assert_eq!(plan_on(without, json!({})).unwrap().process.filters, []);
    assert_eq!(plan_on(without, says).unwrap_err().field, "linux.seccomp");
}

#[test]
fn notifications_are_refused() {
    for profile in [
        json!({"defaultAction": "SCMP_ACT_NOTIFY"}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent.sock"}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"],
            "action": "SCMP_ACT_NOTIFY"}]}),
    ] {
        let (field, message) = refusal(json!({"linux": {"seccomp": profile}}));
        assert_eq!(field, "linux.seccomp");
        assert!(message.contains("SCMP_ACT_NOTIFY"), "{message}");
    }
}
