//! JSON values as YAML in blocks, keys in the order of the alphabet: the same text for the same
//! value, always.

use std::fmt::Write as _;

use serde_json::Value;

/// `value` as YAML, with a newline at its end.
pub(crate) fn to_text(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value, 0);
    text.trim_start_matches('\n').to_owned()
}

/// Writes `value` behind a key or a dash that stands at `depth` less one: scalars and empty
/// collections on the same line, everything else below.
fn write(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let mut keys: Vec<&String> = fields.keys().collect();
            // Sorted here: whether serde_json does it depends on what else is built.
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

/// What follows a key or a dash.
fn entry(text: &mut String, value: &Value, depth: usize) {
    let is_block = match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    // The first key of an object may stand behind its dash, and does.
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

/// A value that holds no others.
fn flat(value: &Value) -> String {
    match value {
        Value::String(string) => scalar(string),
        // OpenAPI's numbers are floating: a bound of 1 reads 1.0.
        Value::Number(number) if number.is_f64() => {
            number.to_string().trim_end_matches(".0").to_owned()
        }
        // Numbers, words and empty collections are written as in JSON, which YAML reads.
        other => other.to_string(),
    }
}

/// A text: as it is where no reader can take it for anything else, or in JSON's quotes.
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
    fn a_text_that_could_be_something_else_is_quoted() {
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
