//! Blocks: added, replaced and removed.

use installer_protocol::Settings;
use runtime_options::{Grouping, HandlerOptions, LogLevel, SettingKey};
use std::num::NonZeroU32;

use super::super::schema;
use super::*;

const SUBJECT: Subject<'static> = Subject::Handler("a");
const BODY: &str = "[plugins.cri.containerd.runtimes.a]\nx = 1\n";

#[test]
fn block_is_added_and_removed_without_other_changes() {
    for text in ["", "a = 1", "a = 1\n", "a = 1\n\n\n", "a = 1\r\n", "# é"] {
        let with = put("/c", text, SUBJECT, BODY).unwrap();
        assert!(
            with.starts_with(text)
                && with.contains(BODY)
                && has(&with, SUBJECT)
                && has_handlers(&with)
        );
        assert_eq!(put("/c", &with, SUBJECT, BODY).unwrap(), with);
        assert_eq!(take("/c", &with, SUBJECT).unwrap(), text);
        assert_eq!(take("/c", text, SUBJECT).unwrap(), text);
    }
}

#[test]
fn new_body_replaces_the_old_one() {
    let text = format!("{}[debug]\n", put("/c", "a = 1\n", SUBJECT, BODY).unwrap());
    let next = BODY.replace('1', "2");
    let with = put("/c", &text, SUBJECT, &next).unwrap();
    assert!(
        with.contains(&next) && !with.contains(BODY) && with.ends_with("[debug]\n"),
        "{with}"
    );
}

#[test]
fn lines_next_to_a_removed_block_are_not_joined() {
    let with = put("/c", "a = 1", SUBJECT, BODY).unwrap();
    assert_eq!(
        take("/c", &format!("{with}[debug]\n"), SUBJECT).unwrap(),
        "a = 1\n[debug]\n"
    );
    let without_gap = put("/c", "a = 1\n", SUBJECT, BODY)
        .unwrap()
        .replace("\n\n", "\n");
    assert_eq!(take("/c", &without_gap, SUBJECT).unwrap(), "a = 1");
}

#[test]
fn edited_block_loses_only_our_parts() {
    let with = put("/c", "a = 1\n", SUBJECT, BODY).unwrap();
    let edited = with.replace(
        "x = 1\n",
        "x = 2\ny = 3\n\n# mine\n[debug]\nlevel = 'info'\n",
    );
    let left = take("/c", &edited, SUBJECT).unwrap();
    assert!(
        left.starts_with("a = 1\n") && left.contains("# mine\n[debug]\nlevel = 'info'\n"),
        "{left}"
    );
    assert!(
        !left.contains("x = 2") && !left.contains("y = 3") && !left.contains(MARK),
        "{left}"
    );
}

#[test]
fn block_without_an_end_mark_is_ignored() {
    let with = put("/c", "", SUBJECT, BODY).unwrap();
    let cut = with
        .lines()
        .filter(|line| !line.starts_with("# <<<"))
        .collect::<Vec<_>>()
        .join("\n");
    assert!(!has(&cut, SUBJECT));
}

#[test]
fn edited_default_runtime_stays() {
    let body = default_runtime_body(Schema::Two, Version::parse("1.7.24").unwrap());
    let with = put("/c", "", Subject::DefaultRuntime, &body).unwrap();
    let edited = with.replace("SystemdCgroup = false", "SystemdCgroup = true");
    let left = take("/c", &edited, Subject::DefaultRuntime).unwrap();
    assert!(
        left.contains("SystemdCgroup = true") && !left.contains(MARK),
        "{left}"
    );
}

fn containerd(version: &str) -> Version {
    Version::parse(version).unwrap()
}

#[test]
fn runtime_type_is_the_launchers_path_if_containerd_finds_launchers_by_type_only() {
    for (version, by_path) in [
        ("1.6.20", true),
        ("1.7.24", true),
        ("2.0.0", false),
        ("2.4.2", false),
    ] {
        let handler = handler(Settings::default());
        assert_eq!(
            runtime_type(&handler, containerd(version)) == handler.launcher,
            by_path,
            "{version}"
        );
    }
}

fn handler(settings: Settings) -> Handler {
    Handler {
        name: "a".to_owned(),
        launcher: "/opt/with \"quotes\"\\".to_owned(),
        systemd_cgroup: false,
        settings,
    }
}

#[test]
fn default_setting_is_not_a_key() {
    let plain = handler_body(
        &handler(Settings::default()),
        Schema::Three,
        containerd("2.4.2"),
    );
    for key in [
        "grouping",
        "log_level",
        "max_containers",
        "engine",
        "compile",
        "locked",
        "artifact_store",
        "sandboxer",
        "disable_pause_image_pull",
    ] {
        assert!(!plain.contains(key), "{plain}");
    }
    let chosen = Settings {
        options: HandlerOptions {
            grouping: Grouping::Pod,
            log_level: LogLevel::Debug,
            max_containers: NonZeroU32::new(9),
            locked: [SettingKey::Engine, SettingKey::CompileWait].into(),
            ..HandlerOptions::default()
        },
        sandboxer: Sandboxer::Shim,
    };
    let body = handler_body(&handler(chosen), Schema::Two, containerd("2.4.2"));
    let document = schema::parse("/c", &body).unwrap();
    let table = schema::under(
        document.as_table(),
        &[
            "plugins",
            Schema::Two.plugin(),
            "containerd",
            "runtimes",
            "a",
        ],
    )
    .unwrap();
    // containerd finds a sandbox's launcher by this only.
    assert_eq!(
        table["runtime_type"].as_str(),
        table["runtime_path"].as_str()
    );
    assert_eq!(
        (
            table["sandboxer"].as_str(),
            table["disable_pause_image_pull"].as_bool()
        ),
        (Some("shim"), Some(true))
    );
    let options = &table["options"];
    assert_eq!(
        (options["grouping"].as_str(), options["log_level"].as_str()),
        (Some("pod"), Some("debug"))
    );
    let locked: Vec<_> = options["locked"].as_array().unwrap().iter().collect();
    let locked: Vec<_> = locked.iter().map(|key| key.as_str().unwrap()).collect();
    assert_eq!(locked, ["engine", "compile-wait"]);
    assert_eq!(
        (
            options["max_containers"].as_integer(),
            options["SystemdCgroup"].as_bool()
        ),
        (Some(9), Some(false))
    );
}

#[test]
fn handler_with_an_options_file_has_no_options_table() {
    let launcher =
        "/opt/wasmedge-runtime/wasmedge/0.1.0-0@1/containerd-shim-wasmedge-v1".to_owned();
    let chosen = Settings {
        options: HandlerOptions {
            grouping: Grouping::Pod,
            max_containers: NonZeroU32::new(9),
            ..HandlerOptions::default()
        },
        ..Settings::default()
    };
    let body = handler_body(
        &Handler {
            launcher: launcher.clone(),
            ..handler(chosen)
        },
        Schema::Two,
        containerd("2.4.2"),
    );
    assert!(
        body.contains(&launcher) && !body.contains("options") && !body.contains("grouping"),
        "{body}"
    );
}

#[test]
fn path_is_quoted() {
    let handler = handler(Settings::default());
    let body = handler_body(&handler, Schema::Three, containerd("2.4.2"));
    let document = schema::parse("/c", &body).unwrap();
    let table = schema::under(
        document.as_table(),
        &[
            "plugins",
            Schema::Three.plugin(),
            "containerd",
            "runtimes",
            "a",
        ],
    )
    .unwrap();
    assert_eq!(
        table["runtime_path"].as_str(),
        Some(handler.launcher.as_str())
    );
    assert_eq!(table["options"]["SystemdCgroup"].as_bool(), Some(false));
}
