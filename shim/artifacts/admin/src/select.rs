//! Keys from their first digits.

use std::str::FromStr;

use anyhow::{Result, bail};
use artifact_store::{Key, Store};

/// The fewest digits: fewer name too much by accident.
const MIN_DIGITS: usize = 4;
/// Digits of a whole key.
const MAX_DIGITS: usize = 64;

/// The first digits of a key, or all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prefix(String);

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if (MIN_DIGITS..=MAX_DIGITS).contains(&text.len()) && text.bytes().all(is_digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "a key is {MIN_DIGITS} to {MAX_DIGITS} lowercase hexadecimal digits"
            ))
        }
    }
}

/// Returns the keys that a store has: of artifacts, and of compiles that failed.
pub(crate) fn known(store: &Store) -> Result<Vec<Key>> {
    let mut keys: Vec<Key> = store.list()?.iter().map(|entry| entry.key).collect();
    keys.extend(store.failures()?.iter().map(|failure| failure.key));
    keys.sort();
    keys.dedup();
    Ok(keys)
}

/// Returns the key of each prefix.
///
/// # Errors
/// When a prefix names no key or more than one: nothing is done then.
pub(crate) fn select(prefixes: &[Prefix], known: &[Key]) -> Result<Vec<Key>> {
    let mut selected = Vec::new();
    for Prefix(prefix) in prefixes {
        let mut matches = known
            .iter()
            .filter(|key| key.to_string().starts_with(prefix));
        match (matches.next(), matches.next()) {
            (Some(key), None) => selected.push(*key),
            (Some(one), Some(other)) => {
                bail!("the key {prefix} is ambiguous, {one} or {other}: write more digits")
            }
            (None, _) => bail!("there is no artifact {prefix}: `artifacts list` prints all"),
        }
    }
    selected.sort();
    selected.dedup();
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_selects_one_known_key() {
        let key = |start: &str| -> Key { format!("{start:0<64}").parse().unwrap() };
        let known = [key("abcd1"), key("abcd2"), key("ef01")];
        let select = |texts: &[&str]| {
            let prefixes: Vec<Prefix> = texts.iter().map(|text| text.parse().unwrap()).collect();
            select(&prefixes, &known).map_err(|error| error.to_string())
        };
        assert_eq!(select(&["ef01", "abcd2"]), Ok(vec![known[1], known[2]]));
        assert_eq!(select(&["ef01", "ef010"]), Ok(vec![known[2]]));
        assert!(select(&["abcd"]).unwrap_err().contains("more digits"));
        assert!(
            select(&["ef01", "0000"])
                .unwrap_err()
                .contains("no artifact 0000")
        );
        for wrong in ["", "abc", "ABCD", "wxyz", &"a".repeat(65)] {
            wrong.parse::<Prefix>().unwrap_err();
        }
    }
}
