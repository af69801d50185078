//! Tests.

use super::*;

const RUNC: &str = "[plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = 'runc'\n\
                    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\nx = ['a', 'b']\n";
const OURS: &str = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.wasmedge]\nruntime_type = 'io.containerd.wasmedge.v1'\n\
                    runtime_path = '/opt/x'\npod_annotations = ['runtime.wasmedge.dev/*']\ncontainer_annotations = ['runtime.wasmedge.dev/*']\n\
                    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.wasmedge.options]\nSystemdCgroup = true\n";

fn differences(before: &str, after: &str) -> String {
    let handler = Handler { name: "wasmedge".to_owned(), launcher: "/opt/x".to_owned(), systemd_cgroup: true };
    judge(before, after, Expected::With(&handler)).map_or_else(|error| error.to_string(), |()| String::new())
}

#[test]
fn our_handler_the_imports_and_the_way_a_value_is_written_may_differ() {
    let before = format!("imports = ['/a']\n{RUNC}");
    let after = format!("{}{OURS}", RUNC.replace("['a', 'b']", "[ \"a\",\n  'b', ]"));
    assert_eq!(differences(&before, &after), "");
    assert_eq!(differences(&after, &after), "");
    judge(&after, &before, Expected::Without("wasmedge")).unwrap();
}

#[test]
fn each_other_difference_is_named() {
    let good = format!("{RUNC}{OURS}");
    for (after, named) in [
        (RUNC.to_owned(), "no handler wasmedge"),
        (OURS.to_owned(), "no handler runc any more"),
        (good.replace("'b'", "'c'"), "runtimes.runc.x"),
        (good.replace("runc.v2", "runc.v1"), "instead of \"io.containerd.runc.v2\""),
        (format!("root = '/x'\n{good}"), "\"/x\" in root instead of nothing"),
        (good.replace("/opt/x", "/opt/y"), "wasmedge.runtime_path instead of \"/opt/x\""),
        (good.replace("= true", "= false"), "false in wasmedge.options.SystemdCgroup"),
        (good.replace("pod_annotations", "other"), "nothing in wasmedge.pod_annotations"),
        (good.replace("default_runtime_name = 'runc'", "default_runtime_name = 'crun'"), "as default handler"),
    ] {
        let found = differences(RUNC, &after);
        assert!(found.contains(named), "{named}: {found}");
    }
}

#[test]
fn a_handler_that_stays_is_named() {
    let error = judge(&format!("{RUNC}{OURS}"), &format!("{RUNC}{OURS}"), Expected::Without("wasmedge")).unwrap_err();
    assert!(error.to_string().contains("the handler wasmedge still"), "{error}");
}

#[test]
fn a_message_names_a_few_of_many_differences() {
    let many = (0..50).map(|number| format!("key{number} = '{}'", "x".repeat(500))).collect::<Vec<_>>().join("\n") + "\n";
    let found = differences(RUNC, &format!("{many}{RUNC}{OURS}"));
    assert!(found.contains("and 45 more") && found.len() < 1000, "{found}");
}
