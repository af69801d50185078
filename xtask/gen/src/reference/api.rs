//! `docs/reference/crd.md`: every field of both kinds.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::Value;
use wasmedge_operator::crd;

use super::table;
use crate::Generated;

const INTRODUCTION: &str = "\
The fields of the API, with defaults and validation. `kubectl explain wasmruntime.spec` shows the
same for a running cluster. Sample manifests are in [docs/samples](../samples).

A field without a default is optional, unless it is required. In a path `[]` means each item of a
list.";

pub(super) fn page() -> Result<Generated> {
    let mut text = format!("{INTRODUCTION}\n\n");
    for definition in crd::definitions() {
        let definition = serde_json::to_value(definition).context("write a CRD as JSON")?;
        kind(&mut text, &definition["spec"]);
    }
    Ok(super::page("crd", "The API", &text))
}

fn kind(text: &mut String, definition: &Value) {
    let names = &definition["names"];
    let version = &definition["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let _ = write!(
        text,
        "## {}\n\n{}\n\n`{}/{}`, {} scoped; `kubectl get {}`, or `{}` for short.\n\n",
        word(&names["kind"]),
        word(&schema["description"]),
        word(&definition["group"]),
        word(&version["name"]),
        word(&definition["scope"]).to_lowercase(),
        word(&names["plural"]),
        word(&names["shortNames"][0]),
    );
    for rule in messages(schema) {
        let _ = write!(text, "Rule: {rule}.\n\n");
    }
    for part in ["spec", "status"] {
        let part_schema = &schema["properties"][part];
        let _ = write!(text, "### {}: {part}\n\n", word(&names["kind"]));
        if part_schema["description"] != schema["description"] {
            let _ = write!(text, "{}\n\n", word(&part_schema["description"]));
        }
        for rule in messages(part_schema) {
            let _ = write!(text, "Rule: {rule}.\n\n");
        }
        let mut rows = Vec::new();
        fields(&mut rows, "", part_schema);
        text.push_str(&table(&["field", "type", "default", "meaning"], rows));
        text.push('\n');
    }
    let columns = version["additionalPrinterColumns"]
        .as_array()
        .into_iter()
        .flatten();
    let column = |column: &Value| {
        let description = column["description"]
            .as_str()
            .map(|description| format!(": {description}"))
            .unwrap_or_default();
        format!("- {}{description}\n", word(&column["name"]))
    };
    let _ = write!(
        text,
        "### {}: columns of `kubectl get`\n\n{}\n",
        word(&names["kind"]),
        columns.map(column).collect::<String>()
    );
}

/// Collects the rows of all fields within `schema`, which has the path `path`.
fn fields(rows: &mut Vec<Vec<String>>, path: &str, schema: &Value) {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut properties: Vec<(&String, &Value)> = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .collect();
    properties.sort_by_key(|(name, _)| *name);
    for (name, field) in properties {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        rows.push(vec![
            format!("`{path}`"),
            shape(field),
            default(field, required.contains(&name.as_str())),
            meaning(field),
        ]);
        fields(rows, &path, field);
        fields(rows, &format!("{path}[]"), &field["items"]);
    }
}

fn default(field: &Value, required: bool) -> String {
    match &field["default"] {
        Value::Null if required => "required".to_owned(),
        Value::Null => String::new(),
        // The rows of an object's fields show its default.
        Value::Object(_)
            if field["properties"]
                .as_object()
                .is_some_and(|inner| inner.values().any(|one| !one["default"].is_null())) =>
        {
            String::new()
        }
        Value::Object(empty) if empty.is_empty() => String::new(),
        value => format!("`{value}`"),
    }
}

fn meaning(field: &Value) -> String {
    let mut text = field["description"].as_str().unwrap_or_default().to_owned();
    for rule in messages(field).into_iter().chain(messages(&field["items"])) {
        let _ = write!(text, " *Rule: {rule}.*");
    }
    text
}

/// Returns the messages of the schema's rules.
fn messages(schema: &Value) -> Vec<&str> {
    let rules = schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten();
    rules.filter_map(|rule| rule["message"].as_str()).collect()
}

/// Describes the type and its bounds.
fn shape(field: &Value) -> String {
    let bound = |name: &str| field[name].as_f64();
    let mut parts = vec![type_of(field)];
    if let Some(words) = field["enum"].as_array() {
        let words: Vec<String> = words
            .iter()
            .filter_map(Value::as_str)
            .map(|word| format!("`{word}`"))
            .collect();
        parts = vec![words.join(", ")];
    }
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) => parts.push(format!("{least} to {most}")),
        (Some(least), None) => parts.push(format!("{least} or more")),
        (None, Some(most)) => parts.push(format!("at most {most}")),
        (None, None) => {}
    }
    parts.extend(bound("maxLength").map(|most| format!("at most {most} characters")));
    parts.extend(bound("maxItems").map(|most| format!("at most {most}")));
    parts.extend(
        field["pattern"]
            .as_str()
            .map(|pattern| format!("`{pattern}`")),
    );
    if let Some(keys) = field["x-kubernetes-list-map-keys"].as_array() {
        let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
        parts.push(format!("each `{}` once", keys.join(", ")));
    }
    parts.join("; ")
}

fn type_of(field: &Value) -> String {
    if field["x-kubernetes-int-or-string"] == true {
        return "number or string".to_owned();
    }
    match field["type"].as_str().unwrap_or("any") {
        "array" => format!("list of {}", plural(&type_of(&field["items"]))),
        "object" if field["additionalProperties"].is_object() => {
            format!(
                "map of {}",
                plural(&type_of(&field["additionalProperties"]))
            )
        }
        "string" if field["format"] == "date-time" => "time".to_owned(),
        other => other.to_owned(),
    }
}

fn plural(word: &str) -> String {
    format!("{word}s")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shape_shows_type_and_bounds() {
        for (field, expected) in [
            (
                json!({"type": "integer", "minimum": 0.0, "maximum": 10.0}),
                "integer; 0 to 10",
            ),
            (json!({"type": "string", "enum": ["A", "B"]}), "`A`, `B`"),
            (
                json!({"type": "array", "items": {"type": "string"}, "maxItems": 2}),
                "list of strings; at most 2",
            ),
            (
                json!({"x-kubernetes-int-or-string": true, "pattern": "^a|b$"}),
                "number or string; `^a|b$`",
            ),
            (
                json!({"type": "object", "additionalProperties": {"type": "string"}}),
                "map of strings",
            ),
        ] {
            assert_eq!(shape(&field), expected);
        }
    }

    #[test]
    fn every_nested_field_has_a_row() {
        let schema = json!({"required": ["a"], "properties": {
            "a": {"type": "array", "items": {"type": "object",
            "properties": {"b": {"type": "string", "description": "x"}}}},
            "c": {"type": "object", "default": {"d": 1}, "properties": {"d": {"type": "integer",
            "default": 1}}}}});
        let mut rows = Vec::new();
        fields(&mut rows, "", &schema);
        let defaults: Vec<(&str, &str)> = rows
            .iter()
            .map(|row| (row[0].as_str(), row[2].as_str()))
            .collect();
        assert_eq!(
            defaults,
            [
                ("`a`", "required"),
                ("`a[].b`", ""),
                ("`c`", ""),
                ("`c.d`", "`1`")
            ]
        );
    }
}
