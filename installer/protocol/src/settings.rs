//! The settings of a handler that an admin chooses: runtime options, and the component that makes
//! pod sandboxes.

use runtime_options::{HandlerOptions, OPTIONS, OptionRow, Sandboxer};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::{Map, Value};

/// The settings of a handler. Defaults are neither written into a request nor on a node, so that an
/// older installer or runtime, which does not know a setting, accepts them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// The runtime's own options.
    #[serde(
        default,
        skip_serializing_if = "HandlerOptions::is_default",
        serialize_with = "chosen_options",
        deserialize_with = "known_options"
    )]
    pub options: HandlerOptions,
    /// The component that makes pod sandboxes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sandboxer: Sandboxer,
}

impl Settings {
    /// Returns whether every setting is at its default.
    pub fn is_default(&self) -> bool {
        is_default(self)
    }
}

/// Writes the options that are not at their default.
fn chosen_options<S: Serializer>(
    options: &HandlerOptions,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let fields =
        |options: &HandlerOptions| serde_json::to_value(options).map_err(ser::Error::custom);
    let (mut chosen, defaults) = (fields(options)?, fields(&HandlerOptions::default())?);
    if let Value::Object(chosen) = &mut chosen {
        chosen.retain(|key, value| defaults.get(key) != Some(value));
    }
    chosen.serialize(serializer)
}

/// Refuses options that this version does not know, or with a value that is not possible. The CRD's
/// reader does not: an operator goes on with objects that a later version wrote.
fn known_options<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HandlerOptions, D::Error> {
    let given = Map::<String, Value>::deserialize(deserializer)?;
    let is_known = |key: &String| OPTIONS.iter().any(|row| row.field == Some(key.as_str()));
    if let Some(key) = given.keys().find(|key| !is_known(key)) {
        return Err(de::Error::custom(format_args!(
            "unknown runtime option {key:?}"
        )));
    }
    let options = HandlerOptions::deserialize(Value::Object(given)).map_err(de::Error::custom)?;
    match options.out_of_bounds() {
        None => Ok(options),
        Some(OptionRow { key, values, .. }) => Err(de::Error::custom(format_args!(
            "runtime option {key:?} is out of its bounds: it is {values}"
        ))),
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use runtime_options::{Grouping, LogLevel};

    use super::*;

    #[test]
    fn default_settings_are_not_written() {
        assert_eq!(serde_json::to_string(&Settings::default()).unwrap(), "{}");
    }

    #[test]
    fn chosen_settings_are_read_as_they_were_written() {
        let options = HandlerOptions {
            grouping: Grouping::Pod,
            log_level: LogLevel::Debug,
            ..HandlerOptions::default()
        };
        let settings = Settings {
            options,
            sandboxer: Sandboxer::Shim,
        };
        let json = serde_json::to_string(&settings).unwrap();
        let expected = r#"{"options":{"grouping":"Pod","logLevel":"Debug"},"sandboxer":"Shim"}"#;
        assert_eq!(json, expected);
        assert_eq!(
            serde_json::from_str::<Settings>(&json).unwrap(),
            settings,
            "{json}"
        );
    }

    #[test]
    fn unknown_or_impossible_options_are_refused_by_name() {
        for (json, word) in [
            (r#"{"options":{"color":"red"}}"#, "color"),
            (r#"{"color":"red"}"#, "color"),
            (r#"{"options":{"locked":["colors"]}}"#, "colors"),
            (r#"{"options":{"compileJobs":17}}"#, "from 1 to 16"),
            (r#"{"options":{"compileWait":"1h"}}"#, "1h"),
            (r#"{"options":{"artifactStore":"store"}}"#, "absolute path"),
        ] {
            let error = serde_json::from_str::<Settings>(json)
                .unwrap_err()
                .to_string();
            assert!(error.contains(word), "{json}: {error}");
        }
    }
}
