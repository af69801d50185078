//! The settings of a handler: runtime options, and the creator of its pods' sandboxes.

use installer_protocol::Settings;

use super::WasmRuntimeSpec;

impl WasmRuntimeSpec {
    /// Returns the settings of the handler, as an installer's request holds them.
    pub fn settings(&self) -> Settings {
        Settings {
            options: self.runtime,
            sandboxer: self.containerd.sandboxer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use runtime_options::{Grouping, HandlerOptions, LogLevel, Sandboxer};
    use serde_json::json;

    use super::*;

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
            "runtime": {"grouping": "Namespace", "logLevel": "Warn", "maxContainers": 250},
            "containerd": {"sandboxer": "Shim"},
        }));
        let expected = Settings {
            options: HandlerOptions {
                grouping: Grouping::Namespace,
                log_level: LogLevel::Warn,
                max_containers: NonZeroU32::new(250),
            },
            sandboxer: Sandboxer::Shim,
        };
        assert_eq!(all, expected);
    }
}
