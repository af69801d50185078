//! JSON values as block-style YAML with sorted keys, so that equal values give equal text.

use std::fmt::Write as _;

use serde_json::Value;

/// Formats `value` as YAML, with a newline at the end.
pub(crate) fn to_text(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value, 0);
    text.trim_start_matches('\n').to_owned()
}

/// Writes `value` after a key or a dash at `depth` minus one: scalars and empty collections on the
/// same line, everything else below.
fn write(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let mut keys: Vec<&String> = fields.keys().collect();
            // Whether serde_json sorts keys depends on the features of the build.
            keys.sort();
            for key in keys {
                start_line(text, depth);
                let _ = write!(text, "{}:", scalar(key));
                entry(text, &fields[key], depth + 1);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                start_line(text, depth);
                text.push('-');
                entry(text, item, depth + 1);
            }
        }
        other => {
            text.push_str(&flat(other));
            text.push('\n');
        }
    }
}

/// Writes the value of a key or of a list item.
fn entry(text: &mut String, value: &Value, depth: usize) {
    let is_block = match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    // The first key of an object is on the line of its dash.
    text.push(if !is_block || (text.ends_with('-') && value.is_object()) {
        ' '
    } else {
        '\n'
    });
    write(text, value, depth);
}

fn start_line(text: &mut String, depth: usize) {
    if text.is_empty() || text.ends_with('\n') {
        text.extend(std::iter::repeat_n("  ", depth));
    }
}

/// Formats a value without children.
fn flat(value: &Value) -> String {
    match value {
        Value::String(string) => scalar(string),
        // Numbers of OpenAPI are floating-point: a bound of 1 is 1.0.
        Value::Number(number) if number.is_f64() => {
            number.to_string().trim_end_matches(".0").to_owned()
        }
        // Integers, booleans, null and empty collections are the same in JSON and YAML.
        other => other.to_string(),
    }
}

/// Formats a string: plain if it is unambiguous, else quoted as in JSON.
fn scalar(text: &str) -> String {
    let mut letters = text.chars();
    let begins = letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic());
    let plain =
        letters.all(|letter| letter.is_ascii_alphanumeric() || "-_./ ,()'".contains(letter));
    let is_word = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "y" | "n"
    );
    if begins && plain && !is_word && !text.ends_with(' ') {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_are_indented_and_keys_sorted() {
        let value = json!({"b": [{"d": 1, "c": {"e": []}}, "text", ["x", {}]], "a": {"f": true}});
        let text =
            "a:\n  f: true\nb:\n  - c:\n      e: []\n    d: 1\n  - text\n  -\n    - x\n    - {}\n";
        assert_eq!(to_text(&value), text);
        assert_eq!(to_text(&json!([{"a": 1}])), "- a: 1\n");
    }

    #[test]
    fn ambiguous_string_is_quoted() {
        for (text, written) in [
            ("plain text, (so) to say.", "plain text, (so) to say."),
            ("io.example/x-y_z", "io.example/x-y_z"),
            ("", r#""""#),
            ("12", r#""12""#),
            ("No", r#""No""#),
            ("a: b", r#""a: b""#),
            ("a #b", r#""a #b""#),
            ("^[a-z]\\.$", r#""^[a-z]\\.$""#),
            ("two\nlines", r#""two\nlines""#),
        ] {
            assert_eq!(scalar(text), written);
        }
    }
}
