//! Differences between two dumps.

use installer_protocol::Settings;
use runtime_options::{HandlerOptions, LogLevel, Sandboxer, SettingKey};
use std::num::NonZeroU32;

use super::*;

const RUNC: &str = "[plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = \
                    'runc'\n\
                    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n\
                    runtime_type = 'io.containerd.runc.v2'\nx = ['a', 'b']\n";
const OURS: &str = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.wasmedge]\nruntime_type = \
            'io.containerd.wasmedge.v1'\n\
                    runtime_path = '/opt/x'\npod_annotations = \
                    ['runtime.wasmedge.dev/*']\ncontainer_annotations = \
                    ['runtime.wasmedge.dev/*']\n\
                    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.wasmedge.options]\nSystemdCgroup = true\n";

fn containerd() -> Version {
    Version::parse("2.4.2").unwrap()
}

fn differences(before: &str, after: &str) -> String {
    differences_with(Settings::default(), before, after)
}

fn differences_with(settings: Settings, before: &str, after: &str) -> String {
    let handler = Handler {
        name: "wasmedge".to_owned(),
        launcher: "/opt/x".to_owned(),
        systemd_cgroup: true,
        settings,
    };
    check(before, after, ExpectedDiff::With(&handler), containerd())
        .map_or_else(|error| error.to_string(), |()| String::new())
}

#[test]
fn diff_requires_the_chosen_settings() {
    let chosen = Settings {
        options: HandlerOptions {
            log_level: LogLevel::Debug,
            max_containers: NonZeroU32::new(9),
            locked: [SettingKey::Engine, SettingKey::Mode].into(),
            ..HandlerOptions::default()
        },
        sandboxer: Sandboxer::Shim,
    };
    let by_path = OURS.replace("'io.containerd.wasmedge.v1'", "'/opt/x'");
    let handler = by_path.replace(
        "runtime_path",
        "sandboxer = 'shim'\ndisable_pause_image_pull = true\nruntime_path",
    );
    let good = format!(
        "{RUNC}{handler}log_level = 'debug'\nmax_containers = 9\n\
         locked = ['engine', 'mode']\n"
    );
    assert_eq!(differences_with(chosen.clone(), RUNC, &good), "");
    for (key, named) in [
        (
            "log_level = 'debug'\n",
            "nothing in wasmedge.options.log_level",
        ),
        (
            "max_containers = 9\n",
            "nothing in wasmedge.options.max_containers",
        ),
        ("sandboxer = 'shim'\n", "nothing in wasmedge.sandboxer"),
        (
            "locked = ['engine', 'mode']\n",
            "nothing in wasmedge.options.locked",
        ),
        (
            "disable_pause_image_pull = true\n",
            "nothing in wasmedge.disable_pause_image_pull",
        ),
    ] {
        let found = differences_with(chosen.clone(), RUNC, &good.replace(key, ""));
        assert!(found.contains(named), "{named}: {found}");
    }
}

#[test]
fn diff_ignores_our_handler_imports_and_notation() {
    let before = format!("imports = ['/a']\n{RUNC}");
    let after = format!("{}{OURS}", RUNC.replace("['a', 'b']", "[ \"a\",\n  'b', ]"));
    assert_eq!(differences(&before, &after), "");
    assert_eq!(differences(&after, &after), "");
    check(
        &after,
        &before,
        ExpectedDiff::Without("wasmedge"),
        containerd(),
    )
    .unwrap();
}

#[test]
fn diff_names_each_other_difference() {
    let good = format!("{RUNC}{OURS}");
    for (after, named) in [
        (RUNC.to_owned(), "no handler wasmedge"),
        (OURS.to_owned(), "no handler runc any more"),
        (good.replace("'b'", "'c'"), "runtimes.runc.x"),
        (
            good.replace("runc.v2", "runc.v1"),
            "instead of \"io.containerd.runc.v2\"",
        ),
        (
            format!("root = '/x'\n{good}"),
            "\"/x\" in root instead of nothing",
        ),
        (
            good.replace("/opt/x", "/opt/y"),
            "wasmedge.runtime_path instead of \"/opt/x\"",
        ),
        (
            good.replace("= true", "= false"),
            "false in wasmedge.options.SystemdCgroup",
        ),
        (
            good.replace("pod_annotations", "other"),
            "nothing in wasmedge.pod_annotations",
        ),
        (
            good.replace(
                "default_runtime_name = 'runc'",
                "default_runtime_name = 'crun'",
            ),
            "as default handler",
        ),
    ] {
        let found = differences(RUNC, &after);
        assert!(found.contains(named), "{named}: {found}");
    }
}

#[test]
fn handler_with_an_options_file_must_have_no_options_table() {
    let launcher = "/opt/wasmedge-runtime/wasmedge/0.1.0-0@1/containerd-shim-wasmedge-v1";
    let handler = Handler {
        name: "wasmedge".to_owned(),
        launcher: launcher.to_owned(),
        systemd_cgroup: true,
        settings: Settings::default(),
    };
    let with_table = OURS.replace("/opt/x", launcher);
    let (table, _) = with_table
        .split_once("[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.wasmedge.options]")
        .unwrap();
    let judged = |ours: &str| {
        check(
            RUNC,
            &format!("{RUNC}{ours}"),
            ExpectedDiff::With(&handler),
            containerd(),
        )
        .map_err(|error| error.to_string())
    };
    assert_eq!(judged(table), Ok(()));
    assert_eq!(
        judged(&format!("{table}options = {{}}\n")),
        Ok(()),
        "as containerd 1.x prints it"
    );
    let error = judged(&with_table).unwrap_err();
    assert!(
        error.contains("true in wasmedge.options.SystemdCgroup instead of nothing"),
        "{error}"
    );
}

#[test]
fn diff_names_a_handler_that_was_not_removed() {
    let error = check(
        &format!("{RUNC}{OURS}"),
        &format!("{RUNC}{OURS}"),
        ExpectedDiff::Without("wasmedge"),
        containerd(),
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("the handler wasmedge still"),
        "{error}"
    );
}

#[test]
fn message_names_some_of_many_differences() {
    let many = (0..50)
        .map(|number| format!("key{number} = '{}'", "x".repeat(500)))
        .collect::<Vec<_>>()
        .join("\n")
        + "\n";
    let found = differences(RUNC, &format!("{many}{RUNC}{OURS}"));
    assert!(
        found.contains("and 45 more") && found.len() < 1000,
        "{found}"
    );
}
