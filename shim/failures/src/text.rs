//! Error texts as they leave the host: on one line, without escape sequences, and of a bounded
//! length.
//!
//! They hold names that users and guests choose. containerd's protocol refuses messages above 4
//! MiB, and then the cause is lost; the kubelet shows the first kilobyte.

/// Maximum bytes of one error of a chain.
const MAX_PART: usize = 2 << 10;
/// Maximum bytes of a whole text.
const MAX_TEXT: usize = 8 << 10;
/// Maximum bytes of one name within a text.
const MAX_NAME: usize = 128;
/// Maximum bytes of the note on omitted text.
const MAX_NOTE: usize = 48;

/// Returns the texts of an error and its sources, outermost first.
pub fn chain(error: &dyn std::error::Error) -> String {
    let texts: Vec<_> = crate::causes(error)
        .iter()
        .map(|text| presentable(text))
        .collect();
    shortened(texts.join(": "), MAX_TEXT)
}

/// Returns `text` on one line and of a bounded length; both ends are kept.
pub fn presentable(text: &str) -> String {
    within(text, MAX_PART)
}

/// Returns a name that a guest or a user chose, as part of a text.
pub fn presentable_name(name: &str) -> String {
    within(name, MAX_NAME)
}

fn within(text: &str, max: usize) -> String {
    // Shortened before it is escaped, so that a text of any length costs little.
    let text = shortened(text.to_owned(), max);
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_unsafe(letter) {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shortened(shown, max)
}

/// Returns whether it is a control character, or changes the direction of text or breaks lines.
fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' |
                '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn shortened(text: String, max: usize) -> String {
    if text.len() <= max {
        return text;
    }
    let kept = max - MAX_NOTE;
    let head = &text[..text.floor_char_boundary(kept * 3 / 4)];
    let tail = &text[text.ceil_char_boundary(text.len() - kept / 4)..];
    format!(
        "{head} … ({} bytes left out) … {tail}",
        text.len() - head.len() - tail.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: String,
        source: Option<Box<Link>>,
    }

    fn linked(texts: &[&str]) -> Link {
        let (first, rest) = texts.split_first().unwrap();
        Link {
            text: (*first).to_owned(),
            source: (!rest.is_empty()).then(|| Box::new(linked(rest))),
        }
    }

    #[test]
    fn chain_is_on_one_line_and_without_escape_sequences() {
        let text = chain(&linked(&[
            "cannot run\u{202e}",
            "imports a\nb\u{1b}[31m.c\td",
            "é “fine”",
        ]));
        assert_eq!(
            text,
            r"cannot run\u{202e}: imports a\nb\u{1b}[31m.c\td: é “fine”"
        );
    }

    #[test]
    fn chain_is_bounded_and_keeps_operation_and_cause() {
        let long = format!("look for {}", "/folder é:".repeat(600_000));
        let text = chain(&linked(&[&long, &"\n".repeat(1 << 20), "the cause"]));
        assert!(
            text.starts_with("look for /folder é") && text.ends_with(": the cause"),
            "{text}"
        );
        assert!(
            text.len() <= MAX_TEXT && text.contains("bytes left out"),
            "{}",
            text.len()
        );
        let many: Vec<&str> = std::iter::repeat_n(long.as_str(), 20)
            .chain(["the cause"])
            .collect();
        let distinct: Vec<String> = many
            .iter()
            .enumerate()
            .map(|(index, text)| format!("{index} {text}"))
            .collect();
        let text = chain(&linked(
            &distinct.iter().map(String::as_str).collect::<Vec<_>>(),
        ));
        assert!(
            text.len() <= MAX_TEXT && text.starts_with("0 look") && text.ends_with("the cause"),
            "{text}"
        );
    }

    #[test]
    fn chain_shows_the_text_of_a_wrapper_once() {
        assert_eq!(chain(&linked(&["a: b", "b", "c"])), "a: b: c");
    }
}
