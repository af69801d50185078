//! Every rule of the schema: valid specs are stored, invalid ones are refused with a helpful
//! message.

use serde_json::{Value, json};

use crate::fixture::{accepted, refused, runtime, try_create};

const SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn platforms(platforms: &Value) -> Value {
    json!({"artifact": {"platforms": platforms}})
}

fn platform(fields: &Value) -> Value {
    let mut platform = json!({"arch": "amd64", "sha256": SHA256});
    platform
        .as_object_mut()
        .into_iter()
        .for_each(|platform| platform.extend(fields.as_object().cloned().unwrap_or_default()));
    platforms(&json!([platform]))
}

fn rollout(field: &str, value: &Value) -> Value {
    json!({"rollout": {field: value}})
}

fn path(field: &str, value: &str) -> Value {
    json!({"containerd": {"paths": {field: value}}})
}

fn class(field: &str, value: &Value) -> Value {
    json!({"runtimeClass": {field: value}})
}

fn expression(expression: &Value) -> Value {
    json!({"nodeSelector": {"matchExpressions": [expression]}})
}

#[test]
fn an_archive_is_named_by_its_sha256_in_lower_case() {
    let with =
        |sha256: &str| platform(&json!({"image": "registry.example/runtime:1", "sha256": sha256}));
    accepted([with(SHA256)]);
    let words = "should match '^[0-9a-f]{64}$'";
    refused([
        (with(&SHA256.to_uppercase()), words),
        (with(&SHA256[1..]), words),
        (with(&format!("sha256:{SHA256}")), words),
    ]);
    refused([(
        platforms(&json!([{"arch": "amd64", "image": "registry.example/runtime:1"}])),
        "sha256: Required value",
    )]);
}

#[test]
fn an_archive_has_either_a_url_or_an_image() {
    let (url, image) = (
        "https://example.org/runtime.tar.gz",
        "registry.example/runtime:1",
    );
    accepted([
        platform(&json!({"url": url})),
        platform(&json!({"image": image})),
    ]);
    let words = "an archive has either a url or an image";
    refused([
        (platform(&json!({"url": url, "image": image})), words),
        (platform(&json!({})), words),
    ]);
}

#[test]
fn a_url_is_one_of_http() {
    let with = |url: &str| platform(&json!({"url": url}));
    accepted([
        with("https://example.org/a/b?c=d"),
        with("http://10.0.0.1:8080/a"),
    ]);
    let words = "should match '^https?";
    refused([
        (with("ftp://example.org/a"), words),
        (with("https://example.org"), words),
        (with("https://example.org/a b"), words),
    ]);
}

#[test]
fn an_image_names_its_registry_or_repository() {
    accepted([platform(
        &json!({"image": format!("registry.example:5000/a/b@sha256:{SHA256}")}),
    )]);
    refused([(
        platform(&json!({"image": "runtime"})),
        "artifact.platforms[0].image",
    )]);
}

#[test]
fn an_architecture_has_one_archive() {
    let of =
        |arch: &str| json!({"arch": arch, "sha256": SHA256, "image": "registry.example/runtime:1"});
    accepted([platforms(&json!([of("amd64"), of("arm64")]))]);
    refused([
        (
            platforms(&json!([of("amd64"), of("amd64")])),
            "Duplicate value",
        ),
        (
            platforms(&json!([of("riscv64")])),
            r#"supported values: "amd64", "arm64""#,
        ),
    ]);
}

#[test]
fn a_preinstalled_runtime_has_no_archive() {
    let with =
        |mode: &str, artifact: Value| json!({"containerd": {"mode": mode}, "artifact": artifact});
    let archive = platform(&json!({"image": "registry.example/runtime:1"}))["artifact"].clone();
    accepted([
        with("Preinstalled", json!({})),
        with("Preinstalled", json!({"platforms": []})),
        with("DropIn", archive.clone()),
        with("InPlace", archive.clone()),
    ]);
    refused([
        (
            with("Preinstalled", archive),
            "leave artifact.platforms empty",
        ),
        (
            with("Copy", json!({})),
            r#"supported values: "Auto", "DropIn", "InPlace", "Preinstalled""#,
        ),
    ]);
}

#[test]
fn options_of_the_runtime_are_enums_and_bounded_numbers() {
    let with = |field: &str, value: Value| json!({"runtime": {field: value}});
    let words = |field: &str, words: &[&str]| {
        words
            .iter()
            .map(|word| with(field, json!(word)))
            .collect::<Vec<_>>()
    };
    accepted(words("grouping", &["Node", "Namespace", "Pod"]));
    accepted(words(
        "logLevel",
        &["Error", "Warn", "Info", "Debug", "Trace"],
    ));
    accepted(words("engine", &["Auto", "WasmEdge", "Wasmtime"]));
    accepted(words("mode", &["Aot", "Interpreter"]));
    accepted(words("compile", &["Tiered", "Wait", "Never"]));
    accepted(words(
        "compileWait",
        &["0", "0s", "1ms", "600000ms", "59s", "600s", "9m", "10m"],
    ));
    accepted([
        with("maxContainers", json!(1)),
        with("maxContainers", json!(1_000_000)),
        with("locked", json!([])),
        with(
            "locked",
            json!(["engine", "mode", "compile", "compile-wait"]),
        ),
        with("artifactStore", json!("/mnt/disk.1/artifacts")),
        with("artifactStoreMaxMiB", json!(64)),
        with("artifactStoreMaxDiskPercent", json!(90)),
        with("compileJobs", json!(16)),
        with("compileMemoryMiB", json!(256)),
        with("compileCpuSeconds", json!(86_400)),
        json!({"runtime": {}}),
    ]);
    refused([
        (
            with("grouping", json!("node")),
            r#"supported values: "Node", "Namespace", "Pod""#,
        ),
        (
            with("logLevel", json!("Verbose")),
            r#"supported values: "Error", "Warn", "Info", "Debug", "Trace""#,
        ),
        (
            with("maxContainers", json!(0)),
            "greater than or equal to 1",
        ),
        (
            with("maxContainers", json!(1_000_001)),
            "less than or equal to 1000000",
        ),
        (
            with("engine", json!("wasmtime")),
            r#"supported values: "Auto", "WasmEdge", "Wasmtime""#,
        ),
        (with("locked", json!(["color"])), "supported values"),
        (with("locked", json!(["mode", "mode"])), "Duplicate value"),
        (with("compileWait", json!("10")), "should match"),
        (with("compileWait", json!("601s")), "should match"),
        (with("compileWait", json!("1h")), "should match"),
        (with("artifactStore", json!("store")), "should match"),
        (with("artifactStore", json!("/a/../b")), "should match"),
        (
            with("artifactStoreMaxDiskPercent", json!(91)),
            "less than or equal to 90",
        ),
        (
            with("compileMemoryMiB", json!(1)),
            "greater than or equal to 256",
        ),
        (
            json!({"runtime": {"engine": "Wasmtime", "mode": "Interpreter"}}),
            "Wasmtime has no interpreter",
        ),
        (
            json!({"containerd": {"sandboxer": "shim"}}),
            r#"supported values: "PodSandbox", "Shim""#,
        ),
    ]);
}

#[test]
fn a_preinstalled_runtime_has_the_options_of_its_image() {
    let with = |more: Value| {
        let mut spec = json!({"containerd": {"mode": "Preinstalled"}});
        spec.as_object_mut()
            .into_iter()
            .for_each(|spec| spec.extend(more.as_object().cloned().unwrap_or_default()));
        spec
    };
    accepted([
        with(json!({})),
        with(json!({"runtime": {"grouping": "Node", "logLevel": "Info"}})),
        with(json!({"runtime": {"engine": "Auto", "compileWait": "10s", "locked": []}})),
    ]);
    let words = "leave runtime and containerd.sandboxer at their defaults";
    refused([
        (with(json!({"runtime": {"grouping": "Pod"}})), words),
        (with(json!({"runtime": {"logLevel": "Debug"}})), words),
        (with(json!({"runtime": {"maxContainers": 9}})), words),
        (with(json!({"runtime": {"engine": "WasmEdge"}})), words),
        (with(json!({"runtime": {"locked": ["engine"]}})), words),
        (with(json!({"runtime": {"compileJobs": 2}})), words),
        (
            json!({"containerd": {"mode": "Preinstalled", "sandboxer": "Shim"}}),
            words,
        ),
    ]);
}

#[test]
fn max_unavailable_is_a_number_or_a_percentage() {
    let with = |value: Value| rollout("maxUnavailable", &value);
    accepted(
        [
            json!(1),
            json!(100_000),
            json!("1%"),
            json!("25%"),
            json!("100%"),
        ]
        .map(with),
    );
    let words = "maxUnavailable is a number from 1 to 100000 or a percentage from 1% to 100%";
    refused(
        [
            json!(0),
            json!(-1),
            json!(100_001),
            json!("0%"),
            json!("101%"),
            json!("5"),
        ]
        .map(|value| (with(value), words)),
    );
    refused([
        (with(json!(0.5)), "must be of type integer,string"),
        (with(json!(true)), "must be of type integer,string"),
    ]);
}

#[test]
fn numbers_of_a_rollout_have_bounds() {
    let at = |field: &str, value: i64| rollout(field, &json!(value));
    accepted(
        [
            ("canary", 0),
            ("canary", 1000),
            ("failureThreshold", 1),
            ("nodeTimeoutSeconds", 720),
            ("nodeTimeoutSeconds", 7200),
        ]
        .map(|(field, value)| at(field, value)),
    );
    refused([
        (at("canary", -1), "greater than or equal to 0"),
        (at("canary", 1001), "less than or equal to 1000"),
        (at("failureThreshold", 0), "greater than or equal to 1"),
        (at("failureThreshold", 1001), "less than or equal to 1000"),
        (
            at("nodeTimeoutSeconds", 719),
            "greater than or equal to 720",
        ),
        (at("nodeTimeoutSeconds", 7201), "less than or equal to 7200"),
    ]);
}

#[test]
fn a_startup_taint_has_the_key_of_a_taint() {
    let with = |taint: Value| json!({"startupTaints": [taint]});
    accepted([
        with(json!({"key": "starting"})),
        with(json!({"key": "runtime.wasmedge.dev/not-ready", "effect": "NoSchedule"})),
        with(json!({"key": "a.b-c/D_e.f", "effect": "NoExecute"})),
    ]);
    for key in ["", "-a", "a/b/c", "/a", "A/b", "a b"] {
        refused([(with(json!({"key": key})), "startupTaints[0].key")]);
    }
    refused([
        (
            with(json!({"effect": "NoSchedule"})),
            "startupTaints[0].key: Required value",
        ),
        (
            with(json!({"key": "a", "effect": "Drain"})),
            r#"supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#,
        ),
        (
            json!({"startupTaints": vec![json!({"key": "a"}); 17]}),
            "must have at most 16 items",
        ),
    ]);
}

#[test]
fn a_runtimes_name_fits_into_labels() {
    let words = "the name is a DNS label of at most 40 letters, digits and dashes that begins with \
                 a letter";
    for name in ["a", "wasmedge-2", &"a".repeat(40)] {
        try_create(&runtime(name, &json!({}))).unwrap();
    }
    for name in ["1a", "a.b", &"a".repeat(41)] {
        let refusal = try_create(&runtime(name, &json!({}))).unwrap_err();
        assert!(refusal.contains(words), "{name}: {refusal}");
    }
}

#[test]
fn class_and_handler_are_dns_labels() {
    for field in ["name", "handler"] {
        accepted([
            class(field, &json!("wasm-2")),
            class(field, &json!("a".repeat(63))),
        ]);
        for wrong in ["", "Wasm", "a.b", "-a", "a-"] {
            refused([(class(field, &json!(wrong)), "should match")]);
        }
        refused([(class(field, &json!("a".repeat(64))), "Too long")]);
    }
}

#[test]
fn overhead_is_in_quantities_of_resources_that_a_pod_takes() {
    let with = |overhead: Value| class("overhead", &overhead);
    accepted([
        with(json!({})),
        with(json!({"cpu": "10m", "memory": "16Mi", "ephemeral-storage": "1.5G"})),
        with(json!({"cpu": 1, "memory": 16_777_216})),
    ]);
    refused([
        (with(json!({"cpu": "a lot"})), "runtimeClass.overhead.cpu"),
        (
            with(json!({"memory": "-1Mi"})),
            "runtimeClass.overhead.memory",
        ),
        (with(json!({"memory": -1})), "greater than or equal to 0"),
        (with(json!({"cpu": 0.5})), "must be of type integer,string"),
        (
            with(json!({"pods": 1})),
            r#"unknown field "spec.runtimeClass.overhead.pods""#,
        ),
    ]);
}

#[test]
fn tolerations_are_those_that_a_runtime_class_may_have() {
    let with = |toleration: Value| class("tolerations", &json!([toleration]));
    accepted([
        with(json!({"operator": "Exists"})),
        with(json!({"key": "pool", "value": "wasm", "effect": "NoSchedule"})),
        with(
            json!({"key": "example.org/pool", "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": 60}),
        ),
    ]);
    refused([
        (
            with(json!({"key": "pool", "operator": "Exists", "value": "wasm"})),
            "a toleration with operator Exists has no value",
        ),
        (
            with(json!({"value": "wasm"})),
            "a toleration without a key has operator Exists",
        ),
        (
            with(json!({"key": "pool", "tolerationSeconds": 60})),
            "only a toleration with effect NoExecute has tolerationSeconds",
        ),
        (
            with(json!({"key": "pool", "operator": "In"})),
            r#"supported values: "Exists", "Equal""#,
        ),
        (
            with(json!({"key": "pool", "effect": "Drain"})),
            r#"supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#,
        ),
        (
            class(
                "tolerations",
                &json!(vec![json!({"operator": "Exists"}); 33]),
            ),
            "must have at most 32 items",
        ),
    ]);
}

#[test]
fn a_node_selector_is_a_label_selector() {
    let words = "In and NotIn need values, Exists and DoesNotExist take none";
    accepted([
        json!({"nodeSelector": {"matchLabels": {"pool": "wasm", "example.org/a": ""}}}),
        expression(&json!({"key": "pool", "operator": "In", "values": ["a", "b"]})),
        expression(&json!({"key": "example.org/pool", "operator": "DoesNotExist"})),
    ]);
    refused([
        (expression(&json!({"key": "pool", "operator": "In"})), words),
        (
            expression(&json!({"key": "pool", "operator": "NotIn", "values": []})),
            words,
        ),
        (
            expression(&json!({"key": "pool", "operator": "Exists", "values": ["a"]})),
            words,
        ),
        (
            expression(&json!({"key": "pool", "operator": "Gt", "values": ["1"]})),
            r#"supported values: "In", "NotIn", "Exists""#,
        ),
        (
            expression(&json!({"key": "a/b/c", "operator": "Exists"})),
            "matchExpressions[0].key",
        ),
        (
            json!({"nodeSelector": {"pool": "wasm"}}),
            r#"unknown field "spec.nodeSelector.pool""#,
        ),
        (
            json!({"nodeSelector": {"matchLabels": {"pool": 1}}}),
            "must be of type string",
        ),
    ]);
}

#[test]
fn paths_are_absolute_and_a_unit_is_a_service() {
    accepted([
        path("config", "/etc/containerd/config.toml"),
        path("socket", "/run/containerd/containerd.sock"),
        path("unit", "snap.microk8s.daemon-containerd.service"),
        path("install", "/opt"),
    ]);
    let words = "should match";
    refused([
        (path("config", "config.toml"), words),
        (path("config", "/config.toml"), words),
        (path("socket", "unix:///run/containerd.sock"), words),
        (path("unit", "containerd"), words),
        (path("unit", "../x.service"), words),
        (path("install", "opt"), words),
        (path("install", "/"), words),
        (
            path("install", &format!("/{}", "a".repeat(256))),
            "Too long",
        ),
    ]);
}

#[test]
fn unknown_enum_value_is_refused() {
    refused([
        (
            json!({"containerd": {"systemdCgroup": true}}),
            "containerd.systemdCgroup",
        ),
        (
            json!({"containerd": {"systemdCgroup": "Yes"}}),
            r#"supported values: "Auto", "Enabled", "Disabled""#,
        ),
        (
            json!({"uninstallPolicy": "Keep"}),
            r#"supported values: "Remove", "Retain""#,
        ),
    ]);
}

#[test]
fn unknown_field_is_refused() {
    refused([
        (json!({"rolout": {}}), r#"unknown field "spec.rolout""#),
        (
            rollout("drain", &json!(true)),
            r#"unknown field "spec.rollout.drain""#,
        ),
        (
            platform(&json!({"image": "registry.example/runtime:1", "binary": "x"})),
            r#"unknown field "spec.artifact.platforms[0].binary""#,
        ),
    ]);
}
