//! The parts of the smoke test that need no containerd.

use super::*;

fn end(code: i32) -> End {
    End {
        code,
        reason: "Error".to_owned(),
        message: "why".to_owned(),
    }
}

const LOG_OF_THE_GUEST: &str =
    "2026-01-02T03:04:05.678Z stdout F the smoke guest ran on this node\n";

#[test]
fn smoke_guest_prints_the_expected_line_and_exits_with_the_expected_code() {
    let guest = include_str!("../../smoke/smoke.wat");
    assert!(
        guest.contains(&format!("\"{EXPECTED_LINE}\\n\"")),
        "{guest}"
    );
    assert!(
        guest.contains(&format!("(i32.const {})", EXPECTED_LINE.len() + 1)),
        "{guest}"
    );
    assert!(
        guest.contains(&format!("(call $proc_exit (i32.const {EXPECTED_CODE}))")),
        "{guest}"
    );
}

#[test]
fn smoke_test_requires_exit_code_and_line() {
    check_end(end(EXPECTED_CODE), LOG_OF_THE_GUEST).unwrap();
    assert!(matches!(
        check_end(end(EXPECTED_CODE), "").unwrap_err(),
        SmokeError::Silent { .. }
    ));
    assert!(matches!(
        check_end(end(0), LOG_OF_THE_GUEST).unwrap_err(),
        SmokeError::WrongEnd { code: 0, .. }
    ));
}

#[test]
fn smoke_test_requires_the_whole_line() {
    let log = LOG_OF_THE_GUEST.replace("node\n", "node not\n");
    assert!(matches!(
        check_end(end(EXPECTED_CODE), &log).unwrap_err(),
        SmokeError::Silent { .. }
    ));
}

#[test]
fn error_of_a_wrong_end_has_code_reason_message_and_log() {
    let log = "2026-01-02T03:04:05Z stderr F wasm: out of\n2026-01-02T03:04:05Z stderr F memory\n";
    let text = check_end(end(1), log).unwrap_err().to_string();
    assert_eq!(
        text,
        r#"the smoke guest ended with code 1 (Error: why), expected 42; its log: "wasm: out of\nmemory""#
    );
}

#[test]
fn tail_of_a_long_log_ends_at_a_character_boundary() {
    let log = format!(
        "2026-01-02T03:04:05Z stdout F {}end\n",
        "ä".repeat(4 * MAX_LOG_TAIL)
    );
    let tail = tail(&log);
    assert!(
        tail.len() <= MAX_LOG_TAIL && tail.ends_with("end"),
        "{tail}"
    );
}

#[test]
fn cgroup_parent_is_a_slice_with_systemd() {
    assert_eq!(cgroup_parent(CgroupDriver::Systemd), "system.slice");
    assert_eq!(cgroup_parent(CgroupDriver::Cgroupfs), "/");
}

#[test]
fn sandboxes_of_a_runtime_share_their_label_and_have_unique_names() {
    let smoke = Smoke {
        runtime: "r".to_owned(),
        handler: "h".to_owned(),
        image: "i".to_owned(),
        driver: CgroupDriver::Systemd,
        logs: Logs {
            node: "/opt/logs".into(),
            local: "/host/opt/logs".into(),
        },
        timeout: Duration::from_secs(1),
    };
    let [one, other] = [(); 2].map(|()| sandbox_config(&smoke, CgroupDriver::Systemd));
    assert_eq!(one.labels, other.labels);
    assert_ne!(one.uid(), other.uid());
    assert_eq!(one.log_directory, "/opt/logs");
    assert_eq!(
        container_config(&smoke, &one).labels,
        one.labels,
        "a container without its sandbox is found by them"
    );
}
