//! The key of an artifact: SHA-256 over everything that decides whether compiled code serves a
//! module on this machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{NotADigest, Sha256Digest};
use crate::record::FORMAT;

/// An engine that runs guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineName {
    /// WasmEdge.
    WasmEdge,
    /// Wasmtime.
    Wasmtime,
}

/// How well code is optimized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Compiled fast, without optimization.
    Baseline,
    /// The best that the engine's compiler makes.
    Optimized,
}

/// Everything that decides whether an artifact serves a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInputs {
    /// Digest of the module's bytes.
    pub module: Sha256Digest,
    /// The engine that compiled it, and that loads it.
    pub engine: EngineName,
    /// The engine's full version and the digest of its build.
    pub version: String,
    /// The tier of the code.
    pub tier: Tier,
    /// The target that it was compiled for, such as `x86_64-unknown-linux-gnu`.
    pub target: String,
    /// The processor, in the text form of [`CpuFeatures`](crate::CpuFeatures).
    pub cpu: String,
    /// Settings of the compiler that change its code, by name. Their order does not matter.
    pub options: Vec<(String, String)>,
}

/// The key of an artifact. Its text has 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(Sha256Digest);

impl KeyInputs {
    /// Returns the key: the digest of an encoding in which no two inputs have the same bytes.
    pub fn key(&self) -> Key {
        let mut options: Vec<_> = self.options.iter().collect();
        options.sort();
        let mut encoding = Encoding::default();
        // The format of the record is part of it: another format's entries have other keys, so two
        // versions of the runtime never see an entry of each other that they cannot read.
        encoding.number(u64::from(FORMAT));
        encoding.bytes(self.module.as_bytes());
        for text in [
            self.engine.as_str(),
            &self.version,
            self.tier.as_str(),
            &self.target,
            &self.cpu,
        ] {
            encoding.bytes(text.as_bytes());
        }
        encoding.number(options.len() as u64);
        for (name, value) in options {
            encoding.bytes(name.as_bytes());
            encoding.bytes(value.as_bytes());
        }
        Key(Sha256Digest::of(&encoding.0))
    }
}

/// Fields with their lengths: no two sequences of fields have the same bytes.
#[derive(Default)]
struct Encoding(Vec<u8>);

impl Encoding {
    fn number(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
    }
}

impl EngineName {
    /// Returns the name as users write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WasmEdge => "wasmedge",
            Self::Wasmtime => "wasmtime",
        }
    }
}

impl Tier {
    /// Returns the name as logs and metrics have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Optimized => "optimized",
        }
    }
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Key {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use super::*;

    pub(crate) fn inputs(module: &[u8]) -> KeyInputs {
        KeyInputs {
            module: Sha256Digest::of(module),
            engine: EngineName::WasmEdge,
            version: "0.17.1+abc".to_owned(),
            tier: Tier::Optimized,
            target: "x86_64-unknown-linux-gnu".to_owned(),
            cpu: "Vendor/6/85 avx2 sse2".to_owned(),
            options: vec![
                ("a".to_owned(), "1".to_owned()),
                ("b".to_owned(), "2".to_owned()),
            ],
        }
    }

    #[test]
    fn each_input_changes_the_key() {
        let base = inputs(b"module");
        let mut all = vec![base.clone()];
        let mut other = |change: fn(&mut KeyInputs)| {
            let mut changed = base.clone();
            change(&mut changed);
            all.push(changed);
        };
        other(|inputs| inputs.module = Sha256Digest::of(b"other"));
        other(|inputs| inputs.engine = EngineName::Wasmtime);
        other(|inputs| inputs.version.push('x'));
        other(|inputs| inputs.tier = Tier::Baseline);
        other(|inputs| inputs.target.push('x'));
        other(|inputs| inputs.cpu.push('x'));
        other(|inputs| inputs.options.clear());
        other(|inputs| inputs.options[0].1.push('x'));
        let keys: BTreeSet<Key> = all.iter().map(KeyInputs::key).collect();
        assert_eq!(keys.len(), all.len());
    }

    #[test]
    fn text_that_moves_between_inputs_changes_the_key() {
        let mut base = inputs(b"module");
        (base.version, base.target, base.cpu) = ("ab".into(), "c".into(), "d".into());
        base.options = vec![("a".to_owned(), "bc".to_owned())];
        let mut moved = base.clone();
        (moved.version, moved.target) = ("a".into(), "bc".into());
        assert_ne!(base.key(), moved.key());
        let mut moved = base.clone();
        moved.options = vec![("ab".to_owned(), "c".to_owned())];
        assert_ne!(base.key(), moved.key());
        let mut moved = base.clone();
        moved.options = vec![
            ("a".to_owned(), "b".to_owned()),
            ("c".to_owned(), String::new()),
        ];
        assert_ne!(base.key(), moved.key());
    }

    #[test]
    fn order_of_options_does_not_change_the_key() {
        let base = inputs(b"module");
        let mut turned = base.clone();
        turned.options.reverse();
        assert_eq!(base.key(), turned.key());
    }

    #[test]
    fn key_survives_its_text() {
        let key = inputs(b"module").key();
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(serde_json::to_string(&key).unwrap(), format!("\"{key}\""));
    }
}
