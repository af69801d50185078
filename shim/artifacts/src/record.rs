//! The record of an artifact, and of a failed compile: what is known of them, in their files.

use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;
use crate::key::{Key, KeyInputs};

/// The format of these files. It is part of each key: see [`KeyInputs::key`].
pub(crate) const FORMAT: u32 = 1;
/// The most bytes of such a file.
pub(crate) const MAX_FILE_BYTES: usize = 128 * 1024;
/// The most bytes of a text that comes from elsewhere: a module's name, a failure's reason.
const MAX_TEXT_BYTES: usize = 4096;
/// After this time a failed compile may be tried again.
pub const FAILURE_TTL: Duration = Duration::from_hours(24);

/// What is known of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its key.
    pub key: Key,
    /// What the key was made of.
    pub inputs: KeyInputs,
    /// Origin of the module, for people: an image's reference, a path.
    pub module_name: String,
    /// Bytes of the artifact.
    pub size: u64,
    /// Digest of the artifact.
    pub sha256: Sha256Digest,
    /// When it was published, in seconds since 1970.
    pub made: u64,
    /// Processor time of its compile, in milliseconds.
    pub compile_cpu_ms: u64,
    /// The most memory that its compile used, in bytes.
    pub compile_peak_bytes: u64,
}

/// A compile that succeeded, as its caller describes it.
#[derive(Debug, Clone)]
pub struct Made {
    /// What was compiled, and how.
    pub inputs: KeyInputs,
    /// Origin of the module, for people.
    pub module_name: String,
    /// Processor time, in milliseconds.
    pub compile_cpu_ms: u64,
    /// The most memory that was used, in bytes.
    pub compile_peak_bytes: u64,
}

/// A compile that failed, as its caller describes it.
#[derive(Debug, Clone)]
pub struct Failed {
    /// What was to be compiled, and how.
    pub inputs: KeyInputs,
    /// Origin of the module, for people.
    pub module_name: String,
    /// The reason.
    pub reason: String,
}

/// A failed compile that is not tried again yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedFailure {
    /// The key of what was to be compiled.
    pub key: Key,
    /// What the key was made of.
    pub inputs: KeyInputs,
    /// Origin of the module, for people.
    pub module_name: String,
    /// The reason.
    pub reason: String,
    /// When it failed, in seconds since 1970.
    pub failed: u64,
}

/// A file of a record: the body and its digest, so that a flipped bit in any field is found.
#[derive(Serialize, Deserialize)]
struct Sealed<T> {
    format: u32,
    body: T,
    sha256: Sha256Digest,
}

/// The part of a file that is the same in all formats.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// A file does not hold what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it has format {0}, and this version of the runtime reads {FORMAT}")]
    Format(u32),
    #[error("it is damaged: {0}")]
    Damaged(String),
}

impl Record {
    pub(crate) fn new(made: Made, size: u64, sha256: Sha256Digest, now: SystemTime) -> Self {
        Self {
            key: made.inputs.key(),
            inputs: made.inputs,
            module_name: bounded(made.module_name),
            size,
            sha256,
            made: seconds(now),
            compile_cpu_ms: made.compile_cpu_ms,
            compile_peak_bytes: made.compile_peak_bytes,
        }
    }

    /// Reads the record of the entry `key`.
    pub(crate) fn read(bytes: &[u8], key: Key) -> Result<Self, Unreadable> {
        let record: Self = open(bytes)?;
        must_be_of(key, record.key, &record.inputs)?;
        Ok(record)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        seal(self)
    }
}

impl RememberedFailure {
    pub(crate) fn new(failed: Failed, now: SystemTime) -> Self {
        Self {
            key: failed.inputs.key(),
            inputs: failed.inputs,
            module_name: bounded(failed.module_name),
            reason: bounded(failed.reason),
            failed: seconds(now),
        }
    }

    /// Reads the remembered failure of `key`.
    pub(crate) fn read(bytes: &[u8], key: Key) -> Result<Self, Unreadable> {
        let failure: Self = open(bytes)?;
        must_be_of(key, failure.key, &failure.inputs)?;
        Ok(failure)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        seal(self)
    }

    /// Whether it still prevents another try. One from the future does not: the clock was wrong
    /// then or is wrong now, and a compile too many costs less than a module that stays slow.
    pub(crate) fn is_valid_at(&self, now: SystemTime) -> bool {
        seconds(now)
            .checked_sub(self.failed)
            .is_some_and(|age| age < FAILURE_TTL.as_secs())
    }
}

/// Returns the seconds since 1970; before it, none.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |age| age.as_secs())
}

fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
    text
}

fn must_be_of(wanted: Key, key: Key, inputs: &KeyInputs) -> Result<(), Unreadable> {
    let made = inputs.key();
    if key == wanted && made == wanted {
        Ok(())
    } else {
        let what = format!("it is of {key}, made of inputs with the key {made}");
        Err(Unreadable::Damaged(what))
    }
}

fn seal<T: Serialize>(body: &T) -> Vec<u8> {
    let sha256 = Sha256Digest::of(&encode(body));
    encode(&Sealed {
        format: FORMAT,
        body,
        sha256,
    })
}

fn open<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    let damaged = |error: serde_json::Error| Unreadable::Damaged(error.to_string());
    let head: Head = serde_json::from_slice(bytes).map_err(damaged)?;
    if head.format != FORMAT {
        return Err(Unreadable::Format(head.format));
    }
    let sealed: Sealed<T> = serde_json::from_slice(bytes).map_err(damaged)?;
    if Sha256Digest::of(&encode(&sealed.body)) == sealed.sha256 {
        Ok(sealed.body)
    } else {
        Err(Unreadable::Damaged("its digest is another one".to_owned()))
    }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::tests::inputs;

    fn made() -> Made {
        Made {
            inputs: inputs(b"module"),
            module_name: "registry/app:1".to_owned(),
            compile_cpu_ms: 1,
            compile_peak_bytes: 2,
        }
    }

    fn failure(failed: u64) -> RememberedFailure {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(failed);
        let failed = Failed {
            inputs: inputs(b"module"),
            module_name: "registry/app:1".to_owned(),
            reason: "the compiler crashed".to_owned(),
        };
        RememberedFailure::new(failed, now)
    }

    #[test]
    fn each_flipped_bit_of_a_record_is_found_or_without_meaning() {
        let record = Record::new(made(), 9, Sha256Digest::of(b"x"), SystemTime::now());
        let bytes = record.to_bytes();
        assert_eq!(Record::read(&bytes, record.key), Ok(record.clone()));
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            if let Ok(read) = Record::read(&flipped, record.key) {
                assert_eq!(read, record, "bit {at}");
            }
        }
    }

    #[test]
    fn record_of_another_entry_is_damaged() {
        let record = Record::new(made(), 9, Sha256Digest::of(b"x"), SystemTime::now());
        let other = inputs(b"other").key();
        let read = Record::read(&record.to_bytes(), other);
        assert!(matches!(read, Err(Unreadable::Damaged(_))), "{read:?}");
    }

    #[test]
    fn record_of_a_newer_format_is_known_as_one_whatever_it_holds() {
        let bytes = br#"{"format":2,"body":{"new":[1]},"signature":"x"}"#;
        let read = Record::read(bytes, inputs(b"module").key());
        assert_eq!(read, Err(Unreadable::Format(2)));
    }

    #[test]
    fn failure_is_valid_for_a_day_and_never_from_the_future() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let day = FAILURE_TTL.as_secs();
        for (failed, expected) in [
            (1_000_000, true),
            (1_000_000 - day + 1, true),
            (1_000_000 - day, false),
            (0, false),
            (1_000_001, false),
            (u64::MAX, false),
        ] {
            let failure = RememberedFailure {
                failed,
                ..failure(0)
            };
            assert_eq!(failure.is_valid_at(now), expected, "{failed}");
        }
    }

    #[test]
    fn texts_from_elsewhere_are_bounded() {
        let mut long = made();
        long.module_name = "é".repeat(MAX_TEXT_BYTES);
        let record = Record::new(long, 1, Sha256Digest::of(b""), SystemTime::now());
        assert!(record.module_name.len() <= MAX_TEXT_BYTES);
        assert!(record.to_bytes().len() < MAX_FILE_BYTES);
    }
}
