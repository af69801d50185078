//! Test that the runtime reads the options that installers write: two crates that do not depend on
//! each other define the names.

use installer_protocol::settings::{Grouping, LogLevel, Settings};
use shim_protocol::options;

/// Returns the options table of an installer as the runtime reads it.
fn read(settings: Settings) -> options::RuntimeOptions {
    let lines: Vec<String> = settings
        .options()
        .iter()
        .map(|(key, value)| format!("{key} = {value}\n"))
        .collect();
    options::RuntimeOptions::from_toml(&lines.concat())
        .unwrap_or_else(|error| panic!("{settings:?}: {error}"))
}

#[test]
fn default_settings_are_the_defaults_of_the_runtime() {
    assert_eq!(
        read(Settings::default()),
        options::RuntimeOptions::default()
    );
    assert_eq!(
        Grouping::default().word(),
        options::Grouping::default().as_str()
    );
    assert_eq!(
        LogLevel::default().word(),
        options::LogLevel::default().as_str()
    );
}

#[test]
fn every_setting_is_read_as_it_was_written() {
    for &grouping in Grouping::ALL {
        assert_eq!(
            read(Settings {
                grouping,
                ..Settings::default()
            })
            .grouping
            .as_str(),
            grouping.word()
        );
    }
    for &log_level in LogLevel::ALL {
        assert_eq!(
            read(Settings {
                log_level,
                ..Settings::default()
            })
            .log_level
            .as_str(),
            log_level.word()
        );
    }
    for max in [1, 1_000_000] {
        let options = read(Settings {
            max_containers: Some(max),
            ..Settings::default()
        });
        assert_eq!(options.max_containers.map(u32::from), Some(max));
    }
}

#[test]
fn every_option_of_the_runtime_has_a_setting() {
    let all = Settings {
        grouping: Grouping::Pod,
        log_level: LogLevel::Error,
        max_containers: Some(1),
        ..Settings::default()
    };
    let mut keys: Vec<&str> = all.options().iter().map(|(key, _)| *key).collect();
    // The installer detects the cgroup driver from the kubelet.
    keys.push("SystemdCgroup");
    keys.sort_unstable();
    let mut known: Vec<&str> = options::OPTIONS.iter().map(|row| row.key).collect();
    known.sort_unstable();
    assert_eq!(keys, known);
}
