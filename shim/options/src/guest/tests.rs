//! The layers of settings, in tables; and any annotations, which are accepted as they were written
//! or refused by name.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const CONTAINER: &str = "app";

fn resolve(
    options: &HandlerOptions,
    annotations: &[(&str, &str)],
) -> Result<GuestSettings, SettingError> {
    GuestSettings::resolve(options, annotations.iter().copied(), Some(CONTAINER))
}

fn locking(keys: &[SettingKey]) -> HandlerOptions {
    HandlerOptions {
        locked: keys.iter().copied().collect(),
        ..HandlerOptions::default()
    }
}

#[test]
fn guest_without_annotations_has_the_settings_of_its_handler() {
    let defaults = GuestSettings {
        engine: EngineChoice::Auto,
        mode: Mode::Aot,
        compile: CompilePolicy::Tiered,
        compile_wait: Duration::from_secs(10),
    };
    assert_eq!(resolve(&HandlerOptions::default(), &[]), Ok(defaults));
    let options = HandlerOptions {
        engine: EngineChoice::Wasmtime,
        compile: CompilePolicy::Wait,
        compile_wait: Duration::ZERO,
        locked: SettingKey::ALL.iter().copied().collect(),
        ..HandlerOptions::default()
    };
    let expected = GuestSettings {
        engine: EngineChoice::Wasmtime,
        mode: Mode::Aot,
        compile: CompilePolicy::Wait,
        compile_wait: Duration::ZERO,
    };
    assert_eq!(resolve(&options, &[]), Ok(expected));
    let foreign = [
        ("io.kubernetes.cri.container-name", "app"),
        ("runtime.wasmedge.dev", "x"),
        ("other.dev/engine", "x"),
    ];
    assert_eq!(resolve(&options, &foreign), Ok(expected));
}

#[test]
fn annotation_changes_the_setting_of_all_guests_or_of_one() {
    const ENGINE: &str = "runtime.wasmedge.dev/engine";
    const OWN: &str = "runtime.wasmedge.dev/engine.app";
    const OTHER: &str = "runtime.wasmedge.dev/engine.other";
    use EngineChoice::{Auto, WasmEdge, Wasmtime};
    for (annotations, expected) in [
        (&[(ENGINE, "wasmtime")][..], Wasmtime),
        (&[(OWN, "wasmedge")], WasmEdge),
        (&[(OWN, "wasmedge"), (ENGINE, "wasmtime")], WasmEdge),
        (&[(ENGINE, "wasmtime"), (OWN, "auto")], Auto),
        (&[(OTHER, "wasmtime")], Auto),
        (&[(OTHER, "of another container")], Auto),
        (&[(OTHER, "wasmedge"), (ENGINE, "wasmtime")], Wasmtime),
    ] {
        let settings = resolve(&HandlerOptions::default(), annotations).unwrap();
        assert_eq!(settings.engine, expected, "{annotations:?}");
    }
    // A container without a pod has no name.
    let without_pod = |annotations: &[(&'static str, &'static str)]| {
        let given = annotations.iter().copied();
        GuestSettings::resolve(&HandlerOptions::default(), given, None).unwrap()
    };
    assert_eq!(without_pod(&[(ENGINE, "wasmtime")]).engine, Wasmtime);
    assert_eq!(without_pod(&[(OWN, "wasmtime")]).engine, Auto);
    let all = [
        ("runtime.wasmedge.dev/engine", "wasmedge"),
        ("runtime.wasmedge.dev/mode", "interpreter"),
        ("runtime.wasmedge.dev/compile", "never"),
        ("runtime.wasmedge.dev/compile-wait.app", "2m"),
    ];
    let expected = GuestSettings {
        engine: WasmEdge,
        mode: Mode::Interpreter,
        compile: CompilePolicy::Never,
        compile_wait: Duration::from_mins(2),
    };
    assert_eq!(resolve(&HandlerOptions::default(), &all), Ok(expected));
}

#[test]
fn unusable_annotation_is_refused_by_name_with_what_is_possible() {
    let options = HandlerOptions {
        engine: EngineChoice::Wasmtime,
        ..locking(&[SettingKey::Engine])
    };
    for (name, value, words) in [
        (
            "engin",
            "auto",
            &[
                "unknown setting \"engin\"",
                "engine, mode, compile, compile-wait",
            ][..],
        ),
        ("engin.other", "auto", &["unknown setting \"engin\""]),
        ("", "auto", &["unknown setting \"\""]),
        ("Mode", "aot", &["unknown setting \"Mode\""]),
        (
            "compileWait",
            "1s",
            &["unknown setting \"compileWait\"", "compile-wait"],
        ),
        (
            "mode.",
            "aot",
            &["no container", "runtime.wasmedge.dev/mode.CONTAINER"],
        ),
        ("mode", "jit", &["\"jit\"", "\"aot\" or \"interpreter\""]),
        ("mode.app", "", &["\"\"", "\"aot\""]),
        (
            "compile",
            "Wait",
            &["\"Wait\"", "\"tiered\", \"wait\" or \"never\""],
        ),
        ("compile-wait", "10", &["\"10\"", "\"500ms\"", "10 minutes"]),
        ("compile-wait", "11m", &["\"11m\"", "10 minutes"]),
        (
            "engine",
            "wasmtime",
            &["locked on this node", "engine in `locked`", "\"wasmtime\""],
        ),
        (
            "engine.app",
            "wasmedge",
            &["locked on this node", "WasmRuntime"],
        ),
        (
            "mode",
            "interpreter",
            &["no interpreter", "\"wasmedge\"", "\"aot\""],
        ),
    ] {
        let annotation = format!("{ANNOTATION_PREFIX}{name}");
        let error = resolve(&options, &[(annotation.as_str(), value)]).unwrap_err();
        let text = error.to_string();
        let is_named = error == SettingError::NoInterpreter || text.contains(&annotation);
        assert!(
            is_named && words.iter().all(|word| text.contains(word)),
            "{name} = {value:?}: {text}"
        );
    }
    // The other container is refused instead.
    let other = [("runtime.wasmedge.dev/engine.other", "wasmedge")];
    resolve(&options, &other).unwrap();
}

#[test]
fn every_setting_has_a_key_a_row_and_an_option() {
    let keys: Vec<SettingKey> = SETTINGS.iter().map(|row| row.key).collect();
    assert_eq!(keys, SettingKey::ALL);
    let fields: Vec<&str> = crate::OPTIONS.iter().filter_map(|row| row.field).collect();
    for row in SETTINGS {
        assert!(fields.contains(&row.field), "{}", row.field);
        let mut settings = GuestSettings::default();
        let default = (row.get)(&settings);
        assert_eq!(
            (row.set)(&mut settings, &default),
            Some(()),
            "{}",
            row.field
        );
        assert_eq!(settings, GuestSettings::default(), "{}", row.field);
        assert!(
            row.values.contains(&format!("{default:?}")),
            "{}",
            row.values
        );
        assert_eq!((row.set)(&mut settings, "nothing"), None, "{}", row.field);
    }
}

fn any_annotation() -> impl Strategy<Value = (String, String)> {
    let key = prop_oneof!["engine|mode|compile|compile-wait", "[a-z.-]{0,9}"];
    let container = prop_oneof![Just(""), Just(".app"), Just(".other"), Just(".")];
    let value = prop_oneof![
        "auto|wasmedge|wasmtime|aot|interpreter|tiered|wait|never",
        "[0-9]{1,4}(ms|s|m)",
        ".{0,6}"
    ];
    (key, container, value)
        .prop_map(|(key, container, value)| (format!("{ANNOTATION_PREFIX}{key}{container}"), value))
}

proptest! {
    #[test]
    fn annotations_apply_as_written_in_any_order_or_are_refused_by_name(
        annotations in proptest::collection::btree_map(any_annotation().prop_map(|(name, _)| name),
            any_annotation().prop_map(|(_, value)| value), 0..5),
        locked in proptest::collection::btree_set(proptest::sample::select(SettingKey::ALL), 0..3),
    ) {
        let options = HandlerOptions { locked, ..HandlerOptions::default() };
        let given: Vec<(&str, &str)> =
            annotations.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let result = resolve(&options, &given);
        let reversed: Vec<_> = given.iter().rev().copied().collect();
        prop_assert_eq!(&resolve(&options, &reversed), &result);
        match result {
            Ok(settings) => for row in SETTINGS {
                let all = format!("{ANNOTATION_PREFIX}{}", row.key.as_str());
                let own = format!("{all}.{CONTAINER}");
                let chosen = annotations.get(&own).or_else(|| annotations.get(&all));
                let mut expected = options.guest_settings();
                if let Some(value) = chosen {
                    prop_assert!(!options.locked.contains(&row.key));
                    prop_assert_eq!((row.set)(&mut expected, value), Some(()));
                }
                prop_assert_eq!((row.get)(&settings), (row.get)(&expected));
            },
            Err(SettingError::NoInterpreter) => {}
            Err(error) => {
                let text = error.to_string();
                prop_assert!(annotations.keys().any(|name| text.contains(name)), "{}", text);
            }
        }
    }

    #[test]
    fn nothing_but_defaults_and_options_applies_to_locked_settings(
        annotations in proptest::collection::vec(any_annotation(), 0..5),
    ) {
        let locked: BTreeSet<SettingKey> = SettingKey::ALL.iter().copied().collect();
        let options = HandlerOptions { locked, ..HandlerOptions::default() };
        let given: Vec<(&str, &str)> =
            annotations.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if let Ok(settings) = resolve(&options, &given) {
            prop_assert_eq!(settings, options.guest_settings());
        }
    }
}
