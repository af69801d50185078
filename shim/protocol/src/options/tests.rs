//! Options as containerd sends them, and the reference page.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use containerd_shim_protos::protobuf::Message as _;
use containerd_shim_protos::shim::oci::Options as RuncOptions;

use runtime_options::{
    CompilePolicy, EngineChoice, Grouping, HandlerOptions, LogLevel, Mode, NodeFolder, OptionRow,
    SettingKey,
};

use super::*;
use crate::wire::Message;

fn grouped(grouping: Grouping) -> RuntimeOptions {
    RuntimeOptions {
        handler: HandlerOptions {
            grouping,
            ..HandlerOptions::default()
        },
        ..RuntimeOptions::default()
    }
}

/// Encodes `runtimeoptions.v1.Options` with this table.
fn generic(table: &str) -> Vec<u8> {
    Message::default()
        .text(1, "io.containerd.wasmedge.v1")
        .text(3, table)
        .into_bytes()
}

fn decode(table: &str) -> Result<Given, String> {
    Given::decode(GENERIC, &generic(table)).map_err(|error| error.to_string())
}

#[test]
fn defaults_apply_without_options() {
    let defaults = RuntimeOptions {
        cgroup_driver: CgroupDriver::Cgroupfs,
        handler: HandlerOptions {
            grouping: Grouping::Node,
            log_level: LogLevel::Info,
            max_containers: None,
            engine: EngineChoice::Auto,
            mode: Mode::Aot,
            compile: CompilePolicy::Tiered,
            compile_wait: Duration::from_secs(10),
            locked: BTreeSet::new(),
            artifact_store: NodeFolder::new("/var/lib/wasmedge-runtime/artifacts").unwrap(),
            artifact_store_max_mib: 10_240,
            artifact_store_max_disk_percent: 10,
            compile_jobs: 1,
            compile_memory_mib: 3072,
            compile_cpu_seconds: 3600,
        },
    };
    assert_eq!(Given::decode("", &[]), Ok(Given::Nothing));
    assert_eq!(Given::decode(GENERIC, &[]), Ok(Given::Nothing));
    assert_eq!(decode("\n"), Ok(Given::Nothing));
    assert_eq!(Given::decode(RUNC, &[]), Ok(Given::Runc(defaults.clone())));
    assert_eq!(Given::Nothing.with_file(None), Ok(defaults));
}

#[test]
fn every_key_is_read() {
    let read = decode(
        "SystemdCgroup = true\ngrouping = 'pod'\nlog_level = \"debug\"\nmax_containers = 250\n\
         engine = 'wasmtime'\nmode = 'aot'\ncompile = 'never'\ncompile_wait = '2m'\n\
         locked = ['mode', 'engine']\nartifact_store = '/mnt/store'\n\
         artifact_store_max_mib = 100\nartifact_store_max_disk_percent = 50\n\
         compile_jobs = 4\ncompile_memory_mib = 1024\ncompile_cpu_seconds = 600\n",
    );
    let expected = RuntimeOptions {
        cgroup_driver: CgroupDriver::Systemd,
        handler: HandlerOptions {
            grouping: Grouping::Pod,
            log_level: LogLevel::Debug,
            max_containers: NonZeroU32::new(250),
            engine: EngineChoice::Wasmtime,
            mode: Mode::Aot,
            compile: CompilePolicy::Never,
            compile_wait: Duration::from_mins(2),
            locked: [SettingKey::Engine, SettingKey::Mode].into(),
            artifact_store: NodeFolder::new("/mnt/store").unwrap(),
            artifact_store_max_mib: 100,
            artifact_store_max_disk_percent: 50,
            compile_jobs: 4,
            compile_memory_mib: 1024,
            compile_cpu_seconds: 600,
        },
    };
    assert_eq!(read, Ok(Given::Table(expected)));
    let typed = Given::decode(
        "type.googleapis.com/runtimeoptions.v1.Options",
        &generic("grouping = 'namespace'"),
    );
    assert_eq!(typed, Ok(Given::Table(grouped(Grouping::Namespace))));
}

#[test]
fn only_the_cgroup_driver_is_used_from_runcs_options() {
    let runc = RuncOptions {
        systemd_cgroup: true,
        no_pivot_root: true,
        binary_name: "crun".to_owned(),
        ..Default::default()
    };
    let read = Given::decode(RUNC, &runc.write_to_bytes().unwrap());
    assert_eq!(
        read,
        Ok(Given::Runc(RuntimeOptions {
            cgroup_driver: CgroupDriver::Systemd,
            ..RuntimeOptions::default()
        }))
    );
}

#[test]
fn bad_options_are_refused_with_the_possible_values() {
    for (table, words) in [
        (
            "Colour = 1",
            &[
                "Colour",
                "SystemdCgroup",
                "grouping",
                "log_level",
                "max_containers",
            ][..],
        ),
        (
            "SystemdCgroup = 'yes'",
            &["SystemdCgroup", "yes", "true or false"],
        ),
        (
            "grouping = 'cluster'",
            &["grouping", "cluster", "node", "namespace", "pod"],
        ),
        ("grouping = 1", &["grouping", "node"]),
        ("log_level = 'loud'", &["log_level", "loud", "trace"]),
        ("max_containers = 0", &["max_containers", "0", "4294967295"]),
        ("max_containers = -1", &["max_containers", "-1"]),
        ("max_containers = 4294967296", &["max_containers"]),
        ("grouping = ", &["TOML"]),
        (
            "engine = 'v8'",
            &["engine", "v8", "auto", "wasmedge", "wasmtime"],
        ),
        (
            "compile_wait = '1h'",
            &["compile_wait", "1h", "500ms", "10 minutes"],
        ),
        (
            "locked = ['engine', 'engines']",
            &["locked", "engines", "compile-wait"],
        ),
        ("locked = 'engine'", &["locked", "a list of"]),
        ("locked = [1]", &["locked", "a list of"]),
        (
            "artifact_store = '/a/../b'",
            &["artifact_store", "absolute"],
        ),
        (
            "artifact_store_max_disk_percent = 91",
            &["artifact_store_max_disk_percent", "91", "from 1 to 90"],
        ),
        ("compile_jobs = 0", &["compile_jobs", "from 1 to 16"]),
    ] {
        let error = decode(table).unwrap_err();
        assert!(
            words.iter().all(|word| error.contains(word)),
            "{table}: {error}"
        );
    }
}

#[test]
fn options_of_another_runtime_are_refused() {
    let error = Given::decode("io.containerd.runhcs.v1.Options", &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("runhcs") && error.contains(GENERIC),
        "{error}"
    );
    Given::decode(GENERIC, b"SystemdCgroup = true").unwrap_err();
}

#[test]
fn options_are_read_from_the_file_of_config_path() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("options.toml");
    let message = Message::default()
        .text(2, file.to_str().unwrap())
        .into_bytes();
    let error = Given::decode(GENERIC, &message).unwrap_err().to_string();
    assert!(error.contains(file.to_str().unwrap()), "{error}");
    std::fs::write(&file, "grouping = 'pod'").unwrap();
    assert_eq!(
        Given::decode(GENERIC, &message),
        Ok(Given::Table(grouped(Grouping::Pod)))
    );
    std::fs::write(&file, "Colour = 1").unwrap();
    assert!(matches!(
        Given::decode(GENERIC, &message),
        Err(OptionsError::UnknownKey { .. })
    ));
}

#[test]
fn every_row_is_an_option() {
    for row in OPTIONS {
        let error = from_toml(&format!("{} = [[1]]", row.key)).unwrap_err();
        assert!(
            matches!(error, OptionsError::BadValue { key, .. } if key == row.key),
            "{error}"
        );
    }
    let read = from_toml("grouping = 'namespace'\nlog_level = 'trace'")
        .unwrap()
        .handler;
    assert_eq!(
        (read.grouping, read.log_level),
        (Grouping::Namespace, LogLevel::Trace)
    );
}

/// The page's path, from this crate's folder.
const PAGE: &str = "../../docs/reference/runtime-options.md";

fn page() -> String {
    let head = "<!-- Generated from `shim/options/src/rows.rs`: change it there, then \
                run\n     \
         `UPDATE_REFERENCE=1 cargo test --package shim-protocol --lib \
         reference_page_matches_the_table`. -->\n\n\
         # Runtime options

Keys of the handler's table in containerd's configuration:
`[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.wasmedge.options]` in containerd 2,
`[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.wasmedge.options]` in containerd 1. An
unknown key or a value that is not valid fails the pod's sandbox, and the message lists the valid
ones.

The same keys can be in a file `options.toml` beside the launcher that the handler's `runtime_path`
names, which can be a link in a separate folder. Installers write this file, because containerd 2.4
cannot create a pod with `hostUsers: false` for a handler with the table. The file must be a regular
file that belongs to root and that only root can write. A handler with both fails the pod's sandbox;
a handler with neither has the defaults. containerd 1.6 does not pass the table on, except for
`ConfigPath`, the path of a file with these keys.

| key | value | default | meaning |\n|---|---|---|---|\n";
    // Keys are not in backticks: `cargo xtask tidy` would look for tests of these names.
    let rows = OPTIONS.iter().map(|row| {
        let OptionRow {
            key,
            values,
            default,
            meaning,
            ..
        } = row;
        format!("| {key} | {values} | {default} | {meaning} |\n")
    });
    std::iter::once(head.to_owned()).chain(rows).collect()
}

#[test]
fn reference_page_matches_the_table() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&file, page()).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap();
    assert_eq!(
        found,
        page(),
        "{} differs from OPTIONS: its first lines have the command that updates it",
        file.display()
    );
}
