//! Every option is read as it was written, and nothing is written of one at its default.

use super::*;

fn chosen() -> HandlerOptions {
    HandlerOptions {
        grouping: Grouping::Pod,
        log_level: LogLevel::Debug,
        max_containers: NonZeroU32::new(7),
        engine: EngineChoice::Wasmtime,
        mode: Mode::Interpreter,
        compile: CompilePolicy::Wait,
        compile_wait: Duration::from_millis(500),
        locked: [SettingKey::Engine, SettingKey::CompileWait].into(),
        artifact_store: NodeFolder::new("/mnt/store").unwrap(),
        artifact_store_max_mib: 64,
        artifact_store_max_disk_percent: 90,
        compile_jobs: 2,
        compile_memory_mib: 4096,
        compile_cpu_seconds: 60,
    }
}

#[test]
fn default_options_are_not_written_into_the_table() {
    assert_eq!(HandlerOptions::default().table(), []);
    assert!(HandlerOptions::default().is_default() && !chosen().is_default());
    let read: HandlerOptions = serde_json::from_str("{}").unwrap();
    assert_eq!(read, HandlerOptions::default());
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
            "max_containers = 7",
            "engine = \"wasmtime\"",
            "mode = \"interpreter\"",
            "compile = \"wait\"",
            "compile_wait = \"500ms\"",
            "locked = [\"engine\", \"compile-wait\"]",
            "artifact_store = \"/mnt/store\"",
            "artifact_store_max_mib = 64",
            "artifact_store_max_disk_percent = 90",
            "compile_jobs = 2",
            "compile_memory_mib = 4096",
            "compile_cpu_seconds = 60",
        ]
    );
    let json = serde_json::to_value(chosen()).unwrap();
    let expected = serde_json::json!({
        "grouping": "Pod",
        "logLevel": "Debug",
        "maxContainers": 7,
        "engine": "Wasmtime",
        "mode": "Interpreter",
        "compile": "Wait",
        "compileWait": "500ms",
        "locked": ["engine", "compile-wait"],
        "artifactStore": "/mnt/store",
        "artifactStoreMaxMiB": 64,
        "artifactStoreMaxDiskPercent": 90,
        "compileJobs": 2,
        "compileMemoryMiB": 4096,
        "compileCpuSeconds": 60,
    });
    assert_eq!(json, expected);
    assert_eq!(
        serde_json::from_value::<HandlerOptions>(json.clone()).unwrap(),
        chosen()
    );
    let mut fields: Vec<&str> = OPTIONS.iter().filter_map(|row| row.field).collect();
    fields.sort_unstable();
    let mut written: Vec<&String> = json.as_object().unwrap().keys().collect();
    written.sort_unstable();
    assert_eq!(written, fields);
}

#[test]
fn every_option_is_read_as_it_was_written() {
    let all = RuntimeOptions {
        cgroup_driver: CgroupDriver::Systemd,
        handler: chosen(),
    };
    let mut read = RuntimeOptions::default();
    for row in OPTIONS {
        let value = (row.get)(&all).unwrap();
        let default = (row.get)(&read);
        assert_ne!(default.as_ref(), Some(&value), "{}", row.key);
        if let Some(default) = default {
            assert_eq!(row.default, default.to_string(), "{}", row.key);
        }
        assert_eq!(read.set(row.key, value), Some(()), "{}", row.key);
    }
    assert_eq!(read, all);
    assert!(chosen().out_of_bounds().is_none());
}

#[test]
fn every_name_is_that_of_its_value() {
    assert!(
        Grouping::ALL
            .iter()
            .all(|value| Grouping::from_name(value.as_str()) == Some(*value))
    );
    assert!(
        LogLevel::ALL
            .iter()
            .all(|value| LogLevel::from_name(value.as_str()) == Some(*value))
    );
    for key in SettingKey::ALL {
        assert_eq!(SettingKey::from_name(key.as_str()), Some(*key));
        assert_eq!(serde_json::to_value(key).unwrap(), key.as_str());
    }
}

#[test]
fn values_that_a_key_cannot_have_are_refused() {
    let number = OptionValue::Number;
    for (key, value) in [
        ("SystemdCgroup", "true".into()),
        ("grouping", "Node".into()),
        ("grouping", OptionValue::Flag(true)),
        ("log_level", "loud".into()),
        ("max_containers", number(0)),
        ("max_containers", number(-1)),
        ("max_containers", number(1 << 32)),
        ("engine", "Wasmtime".into()),
        ("mode", "jit".into()),
        ("compile", "always".into()),
        ("compile_wait", number(10)),
        ("compile_wait", "10".into()),
        ("compile_wait", "601s".into()),
        ("locked", "engine".into()),
        ("locked", OptionValue::Words(vec!["engine", "engines"])),
        ("artifact_store", "store".into()),
        ("artifact_store", "/var/lib/../store".into()),
        ("artifact_store_max_mib", number(63)),
        ("artifact_store_max_mib", number(104_857_601)),
        ("artifact_store_max_disk_percent", number(0)),
        ("artifact_store_max_disk_percent", number(91)),
        ("artifact_store_max_disk_percent", number(256 + 10)),
        ("compile_jobs", number(0)),
        ("compile_jobs", number(17)),
        ("compile_memory_mib", number(255)),
        ("compile_memory_mib", number(1_048_577)),
        ("compile_cpu_seconds", number(9)),
        ("compile_cpu_seconds", number(86_401)),
        ("color", "red".into()),
    ] {
        let mut options = RuntimeOptions::default();
        assert_eq!(options.set(key, value.clone()), None, "{key} = {value}");
        assert_eq!(options, RuntimeOptions::default(), "{key} = {value}");
    }
}

#[test]
fn option_out_of_its_bounds_is_found() {
    let options = HandlerOptions {
        compile_jobs: 17,
        ..HandlerOptions::default()
    };
    assert_eq!(options.out_of_bounds().unwrap().key, "compile_jobs");
    assert!(HandlerOptions::default().out_of_bounds().is_none());
}
