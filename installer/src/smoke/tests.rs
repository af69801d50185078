//! The smoke test, as far as it needs no containerd.

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
fn the_guest_in_the_image_says_the_expected_line_and_ends_with_the_expected_code() {
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
fn code_and_line_together_prove_that_the_guest_ran() {
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
fn a_line_that_only_begins_like_the_guests_is_none() {
    let log = LOG_OF_THE_GUEST.replace("node\n", "node not\n");
    assert!(matches!(
        check_end(end(EXPECTED_CODE), &log).unwrap_err(),
        SmokeError::Silent { .. }
    ));
}

#[test]
fn a_wrong_end_is_told_with_all_that_is_known_of_it() {
    let log = "2026-01-02T03:04:05Z stderr F wasm: out of\n2026-01-02T03:04:05Z stderr F memory\n";
    let text = check_end(end(1), log).unwrap_err().to_string();
    assert_eq!(
        text,
        r#"the smoke guest ended with code 1 (Error: why), expected 42; its log: "wasm: out of\nmemory""#
    );
}

#[test]
fn of_a_long_log_the_end_is_kept_and_no_letter_is_cut() {
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
fn systemd_is_given_a_slice() {
    assert_eq!(cgroup_parent(CgroupDriver::Systemd), "system.slice");
    assert_eq!(cgroup_parent(CgroupDriver::Cgroupfs), "/");
}

#[test]
fn two_sandboxes_of_a_runtime_share_their_label_and_nothing_that_has_to_be_unique() {
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
    assert_ne!(one.metadata.unwrap().uid, other.metadata.unwrap().uid);
    assert_eq!(one.log_directory, "/opt/logs");
    assert_eq!(
        container_config(&smoke).labels,
        one.labels,
        "a container without its sandbox is found by them"
    );
}
