//! Identifiers of containers and namespaces, which become parts of paths. The rules are those of
//! containerd's package `identifiers`, so every identifier that containerd accepts is accepted
//! here.

/// The longest identifier.
const MAX_LENGTH: usize = 76;

/// A text that containerd would not accept as an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a valid {what}: containerd's identifiers have 1 to {MAX_LENGTH} letters and \
     digits of ASCII, with single dots, dashes \
     or underscores between them"
)]
pub struct IdentifierError {
    what: &'static str,
    text: String,
}

/// Checks that `text` is an identifier; `what` names its meaning.
///
/// # Errors
/// If it is not.
pub fn validate(what: &'static str, text: &str) -> Result<(), IdentifierError> {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if text.len() <= MAX_LENGTH && text.split(['.', '_', '-']).all(is_word) {
        return Ok(());
    }
    // An error has a limited length, whatever it quotes.
    let text = text.chars().take(2 * MAX_LENGTH).collect();
    Err(IdentifierError { what, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_those_of_containerd() {
        let longest = "a".repeat(MAX_LENGTH);
        for text in [
            "a",
            "k8s.io",
            "default",
            "Pod_1-a.b",
            "0123456789abcdef",
            &longest,
        ] {
            assert_eq!(validate("container id", text), Ok(()), "{text}");
        }
        let too_long = "a".repeat(MAX_LENGTH + 1);
        for text in [
            "",
            ".",
            "..",
            "../../x",
            "a/b",
            "a..b",
            "-a",
            "a-",
            "a b",
            "a\n",
            "a\0b",
            "ä",
            &too_long,
            &"x/".repeat(1 << 20),
        ] {
            let error = validate("container id", text).unwrap_err().to_string();
            assert!(
                error.contains("is not a valid container id: ") && error.len() < 600,
                "{text:?}: {error}"
            );
        }
    }
}
