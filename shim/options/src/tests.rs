//! Every option is read as it was written, and nothing is written of one at its default.

use super::*;

fn chosen() -> HandlerOptions {
    HandlerOptions {
        grouping: Grouping::Pod,
        log_level: LogLevel::Debug,
        max_containers: NonZeroU32::new(7),
    }
}

#[test]
fn default_options_are_not_written_into_the_table() {
    assert_eq!(HandlerOptions::default().table(), []);
    assert!(HandlerOptions::default().is_default() && !chosen().is_default());
}

#[test]
fn chosen_options_are_keys_of_the_table_and_of_a_request() {
    let table = chosen().table();
    let lines: Vec<String> = table
        .iter()
        .map(|(key, value)| format!("{key} = {value}"))
        .collect();
    assert_eq!(
        lines,
        [
            "grouping = \"pod\"",
            "log_level = \"debug\"",
            "max_containers = 7"
        ]
    );
    let json = serde_json::to_string(&chosen()).unwrap();
    assert_eq!(
        json,
        r#"{"grouping":"Pod","logLevel":"Debug","maxContainers":7}"#
    );
    assert_eq!(
        serde_json::from_str::<HandlerOptions>(&json).unwrap(),
        chosen()
    );
    let written: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&json).unwrap();
    let fields: Vec<&str> = OPTIONS.iter().filter_map(|row| row.field).collect();
    assert!(written.keys().map(String::as_str).eq(fields), "{json}");
}

#[test]
fn every_option_is_read_as_it_was_written() {
    let all = RuntimeOptions {
        cgroup_driver: CgroupDriver::Systemd,
        handler: chosen(),
    };
    let mut read = RuntimeOptions::default();
    for row in OPTIONS {
        let value = (row.get)(&all).unwrap_or_else(|| panic!("{} is at its default", row.key));
        assert_eq!((row.get)(&read), None, "{}", row.key);
        assert_eq!(read.set(row.key, value), Some(()), "{}", row.key);
    }
    assert_eq!(read, all);
    for &grouping in Grouping::ALL {
        assert_eq!(Grouping::from_name(grouping.as_str()), Some(grouping));
    }
    for &log_level in LogLevel::ALL {
        assert_eq!(LogLevel::from_name(log_level.as_str()), Some(log_level));
    }
}

#[test]
fn values_that_a_key_cannot_have_are_refused() {
    for (key, value) in [
        ("SystemdCgroup", OptionValue::Word("true")),
        ("grouping", OptionValue::Word("Node")),
        ("grouping", OptionValue::Flag(true)),
        ("log_level", OptionValue::Word("loud")),
        ("max_containers", OptionValue::Number(0)),
        ("max_containers", OptionValue::Number(-1)),
        ("max_containers", OptionValue::Number(1 << 32)),
        ("color", OptionValue::Word("red")),
    ] {
        let mut options = RuntimeOptions::default();
        assert_eq!(options.set(key, value), None, "{key} = {value}");
        assert_eq!(options, RuntimeOptions::default(), "{key} = {value}");
    }
}
