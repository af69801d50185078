//! The settings of a handler: runtime options, and the creator of its pods' sandboxes.

use installer_protocol::Settings;

use super::WasmRuntimeSpec;

impl WasmRuntimeSpec {
    /// Returns the settings of the handler, as an installer's request holds them.
    pub fn settings(&self) -> Settings {
        Settings {
            options: self.runtime.clone(),
            sandboxer: self.containerd.sandboxer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use runtime_options::{
        EngineChoice, Grouping, HandlerOptions, LogLevel, OPTIONS, Sandboxer, SettingKey,
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::crd::PREINSTALLED_OPTIONS;

    #[test]
    fn rule_for_preinstalled_runtimes_has_the_default_of_every_option() {
        let defaults = serde_json::to_value(HandlerOptions::default()).unwrap();
        for field in OPTIONS.iter().filter_map(|row| row.field) {
            let expected = match &defaults[field] {
                Value::Null => format!("!has(self.runtime.{field})"),
                Value::String(word) => format!("self.runtime.{field} == '{word}'"),
                default => format!("self.runtime.{field} == {default}"),
            };
            assert!(PREINSTALLED_OPTIONS.contains(&expected), "{expected}");
        }
    }

    #[test]
    fn request_has_the_choices_of_the_spec() {
        let spec = |spec| {
            serde_json::from_value::<WasmRuntimeSpec>(spec)
                .unwrap()
                .settings()
        };
        assert!(spec(json!({})).is_default());
        assert!(
            spec(json!({"runtime": {"grouping": "Node", "logLevel": "Info"},
            "containerd": {"sandboxer": "PodSandbox"}}))
            .is_default()
        );
        let all = spec(json!({
            "runtime": {
                "grouping": "Namespace",
                "logLevel": "Warn",
                "maxContainers": 250,
                "engine": "Wasmtime",
                "compileWait": "2m",
                "locked": ["engine"],
            },
            "containerd": {"sandboxer": "Shim"},
        }));
        let expected = Settings {
            options: HandlerOptions {
                grouping: Grouping::Namespace,
                log_level: LogLevel::Warn,
                max_containers: NonZeroU32::new(250),
                engine: EngineChoice::Wasmtime,
                compile_wait: Duration::from_mins(2),
                locked: [SettingKey::Engine].into(),
                ..HandlerOptions::default()
            },
            sandboxer: Sandboxer::Shim,
        };
        assert_eq!(all, expected);
    }
}
