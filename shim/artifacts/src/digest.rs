//! SHA-256 digests.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Bytes that are read at a time while a file is hashed.
const BUFFER_BYTES: usize = 256 * 1024;
/// Algorithm of an image's digests, as OCI writes it.
const OCI_PREFIX: &str = "sha256:";

/// A SHA-256 digest. Its text has 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Digest([u8; 32]);

/// A text is not the digest of anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a SHA-256 digest: 64 lowercase hexadecimal digits")]
pub struct NotADigest(String);

impl Sha256Digest {
    /// Wraps the bytes of a digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Reads to the end and returns the digest and the number of bytes.
    pub fn of_reader(mut reader: impl Read) -> io::Result<(Self, u64)> {
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(hasher.end()),
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads the digest of an image's layer: `sha256:` and 64 digits.
    ///
    /// # Errors
    /// When the text has another form, or another algorithm.
    pub fn from_image_digest(text: &str) -> Result<Self, NotADigest> {
        text.strip_prefix(OCI_PREFIX)
            .ok_or_else(|| NotADigest(text.to_owned()))?
            .parse()
    }

    /// Returns it as an image names it.
    pub fn to_image_digest(&self) -> String {
        format!("{OCI_PREFIX}{self}")
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A digest under way, with the number of bytes that are in it.
#[derive(Default)]
pub(crate) struct Hasher {
    state: Sha256,
    bytes: u64,
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    pub(crate) fn end(self) -> (Sha256Digest, u64) {
        (Sha256Digest(self.state.finalize().into()), self.bytes)
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let wrong = || NotADigest(text.chars().take(80).collect());
        if text.len() != 64 {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(wrong());
            };
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Sha256Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of no bytes, as every description of the algorithm has it.
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digest_is_that_of_the_standard_in_all_its_forms() {
        let empty = Sha256Digest::of(b"");
        assert_eq!(empty.to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(empty));
        let of_image = format!("sha256:{EMPTY}");
        assert_eq!(empty.to_image_digest(), of_image);
        assert_eq!(Sha256Digest::from_image_digest(&of_image), Ok(empty));
        assert_eq!(Sha256Digest::of_reader(&b""[..]).unwrap(), (empty, 0));
        let large = vec![7; BUFFER_BYTES * 2 + 1];
        assert_eq!(
            Sha256Digest::of_reader(&large[..]).unwrap(),
            (Sha256Digest::of(&large), large.len() as u64)
        );
    }

    #[test]
    fn text_that_is_not_a_digest_is_refused() {
        for text in [
            "",
            "e3",
            &EMPTY.to_uppercase(),
            &EMPTY.replace('e', "g"),
            &"é".repeat(32),
        ] {
            text.parse::<Sha256Digest>().unwrap_err();
        }
        for text in [
            EMPTY,
            "sha256:",
            &format!("sha256:{}", &EMPTY[..63]),
            &format!("sha256:{EMPTY}0"),
            &format!("sha256:{}", EMPTY.replace('e', "\n")),
            &format!("SHA256:{EMPTY}"),
            &format!("sha512:{EMPTY}"),
            &format!("sha512:{EMPTY}{EMPTY}"),
        ] {
            Sha256Digest::from_image_digest(text).unwrap_err();
        }
    }
}
