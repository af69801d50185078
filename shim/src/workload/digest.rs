//! Digests of guests, and the files that they are known of.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::{Duration, SystemTime};

pub(crate) use artifact_store::Sha256Digest as Digest;
use rustix::fs::fstatfs;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// Bytes that are read at a time.
const CHUNK: usize = 256 << 10;
/// How long a file must not have changed before its digest is kept. A further change within the
/// resolution of the file system's times would not be seen.
const MIN_AGE: Duration = Duration::from_secs(3);
/// The type of an overlay in statfs(2) (linux/magic.h).
const OVERLAY: i64 = 0x794c_7630;

/// Returns the digest of `bytes` in OCI's form, by the algorithm of `like`, which is one of OCI's
/// three; by SHA-256 if it is none of them.
pub(crate) fn of_same_algorithm(like: &str, bytes: &[u8]) -> String {
    match like.split_once(':') {
        Some(("sha384", _)) => format!("sha384:{:x}", Sha384::digest(bytes)),
        Some(("sha512", _)) => format!("sha512:{:x}", Sha512::digest(bytes)),
        _ => Digest::of(bytes).to_image_digest(),
    }
}

/// A file at one state of its content. A user can set every field but `changed`, which is the
/// kernel's, or that of the server of a network file system; that can deceive its own user alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct FileIdentity {
    /// None in an overlay, of which each container has its own, with a number of its own.
    device: Option<u64>,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileIdentity {
    fn of(file: &File, metadata: &Metadata) -> io::Result<Self> {
        let is_overlay = i128::from(fstatfs(file)?.f_type) == i128::from(OVERLAY);
        Ok(Self {
            device: (!is_overlay).then(|| metadata.dev()),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Returns whether the last change is so long ago at `now` that a further one has another time.
    fn is_settled(&self, now: SystemTime) -> bool {
        let changed = u64::try_from(self.changed.0).unwrap_or_default();
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(changed + 1);
        // A file of the future, after a jump of the clock, is not settled.
        now.duration_since(changed).is_ok_and(|age| age >= MIN_AGE)
    }
}

/// The digest of a file's bytes, with the file where the digest can be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileDigest {
    /// The digest.
    pub(crate) digest: Digest,
    /// None if the file had changed a moment before.
    identity: Option<FileIdentity>,
}

impl FileDigest {
    /// Returns the digest of the first `size` bytes of `file`: that of `known` which is of this
    /// file, if there is one. Does not use or move the file's position.
    ///
    /// # Errors
    /// If it cannot be read, or has fewer bytes.
    pub(crate) fn of(file: &File, size: u64, known: &[Self]) -> io::Result<Self> {
        let before = FileIdentity::of(file, &file.metadata()?)?;
        let is_same = |known: &&Self| known.identity == Some(before);
        if let Some(known) = known.iter().find(is_same) {
            return Ok(*known);
        }
        let digest = read(file, size)?;
        let after = FileIdentity::of(file, &file.metadata()?)?;
        let is_reusable =
            before == after && after.size == size && after.is_settled(SystemTime::now());
        Ok(Self {
            digest,
            identity: is_reusable.then_some(after),
        })
    }

    /// Returns it if it can be used again.
    pub(crate) fn reusable(self) -> Option<Self> {
        self.identity.map(|_| self)
    }
}

fn read(file: &File, size: u64) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    while at < size {
        let wanted = usize::try_from(size - at).map_or(CHUNK, |left| left.min(CHUNK));
        file.read_exact_at(&mut chunk[..wanted], at)?;
        hasher.update(&chunk[..wanted]);
        at += wanted as u64;
    }
    Ok(Digest::from_bytes(hasher.finalize().into()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

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

    /// Returns a file with these bytes that counts as settled, and its digest as it is kept.
    fn settled(bytes: &[u8]) -> (File, FileDigest) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let made = FileDigest::of(&file, bytes.len() as u64, &[]).unwrap();
        assert_eq!(made.reusable(), None, "a file that was just written");
        let identity = FileIdentity::of(&file, &file.metadata().unwrap()).unwrap();
        let kept = FileDigest {
            identity: Some(identity),
            ..made
        };
        (file, kept)
    }

    #[test]
    fn file_of_any_size_has_the_digest_of_its_bytes() {
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7] {
            let bytes = vec![b'x'; size];
            let (file, kept) = settled(&bytes);
            assert_eq!(kept.digest, Digest::of(&bytes), "{size}");
            assert!(FileDigest::of(&file, size as u64 + 1, &[]).is_err(), "cut");
        }
    }

    #[test]
    fn known_digest_is_used_for_the_same_file_and_no_other() {
        let (mut file, kept) = settled(b"guest");
        let (other, other_kept) = settled(b"other");
        // A digest that no bytes here have shows that it was not computed.
        let known = [
            other_kept,
            FileDigest {
                digest: Digest::of(b"known"),
                ..kept
            },
        ];
        let of = |file: &File, size| FileDigest::of(file, size, &known).unwrap().digest;
        assert_eq!(of(&file, 5), Digest::of(b"known"));
        assert_eq!(of(&other, 5), Digest::of(b"other"));
        file.write_all(b"!").unwrap();
        assert_eq!(of(&file, 6), Digest::of(b"guest!"));
    }

    #[test]
    fn file_is_settled_some_seconds_after_its_last_change() {
        let (file, _) = settled(b"guest");
        let metadata = file.metadata().unwrap();
        let identity = FileIdentity::of(&file, &metadata).unwrap();
        let changed =
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(metadata.ctime()).unwrap());
        for (seconds, expected) in [(0, false), (3, false), (4, true), (3600, true)] {
            let now = changed + Duration::from_secs(seconds);
            assert_eq!(identity.is_settled(now), expected, "{seconds} s");
        }
        assert!(!identity.is_settled(changed - Duration::from_hours(1)));
    }
}
