//! Short names for texts that are too long for a file name, or contain characters that file names
//! cannot have.

use sha2::{Digest as _, Sha256};

/// Returns the first `bytes` of a hash of `parts`, in hexadecimal digits.
pub(crate) fn name_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>, bytes: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // Each part is prefixed with its length, so that no two lists of parts hash alike.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digits = hash
        .finalize()
        .into_iter()
        .take(bytes)
        .flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}
