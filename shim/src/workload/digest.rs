//! Digests of guests in OCI's form: `sha256:` and 64 hexadecimal digits (image-spec, descriptor,
//! digests).

use sha2::{Digest as _, Sha256, Sha384, Sha512};

const ALGORITHM: &str = "sha256:";
const DIGITS: usize = 64;

/// Returns the digest of `bytes`.
pub(crate) fn of(bytes: &[u8]) -> String {
    format!("{ALGORITHM}{:x}", Sha256::digest(bytes))
}

/// Returns the digest of `bytes` by the algorithm of `like`, which is one of OCI's three; by
/// SHA-256 if it is none of them.
pub(crate) fn of_same_algorithm(like: &str, bytes: &[u8]) -> String {
    match like.split_once(':') {
        Some(("sha384", _)) => format!("sha384:{:x}", Sha384::digest(bytes)),
        Some(("sha512", _)) => format!("sha512:{:x}", Sha512::digest(bytes)),
        _ => of(bytes),
    }
}

/// Returns `text` if it has the form of a digest. A guest's process is not trusted, and its text
/// goes into logs.
pub(crate) fn checked(text: &str) -> Option<&str> {
    let digits = text.strip_prefix(ALGORITHM)?;
    let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    (digits.len() == DIGITS && digits.bytes().all(is_digit)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computed_digest_passes_the_check() {
        let digest = of(b"");
        assert_eq!(
            digest,
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(checked(&digest), Some(&*digest));
    }

    #[test]
    fn digest_is_computed_by_the_algorithm_of_another() {
        for (like, length) in [
            ("sha256:0", 71),
            ("sha384:0", 103),
            ("sha512:0", 135),
            ("md5:0", 71),
        ] {
            let digest = of_same_algorithm(like, b"");
            assert!(
                digest.len() == length && (like == "md5:0" || digest[..7] == like[..7]),
                "{like}: {digest}"
            );
        }
    }

    #[test]
    fn text_in_another_form_is_not_a_digest() {
        let digest = of(b"");
        for text in [
            "",
            "sha256:",
            &digest[..70],
            &format!("{digest}0"),
            &digest.to_uppercase(),
            &digest.replace('e', "\n"),
            &digest[7..],
        ] {
            assert_eq!(checked(text), None, "{text:?}");
        }
    }
}
