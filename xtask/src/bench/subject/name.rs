//! The names of subjects: runc, this project's runtime, and the peers that `--peer` names.

use std::fmt;

use anyhow::{Error, Result, bail};
use serde::{Deserialize, Serialize};

/// The maximum length of a name, which becomes part of container ids, of a containerd handler and
/// of a RuntimeClass, which are DNS labels.
const MAX_LENGTH: usize = 32;

/// The name of a subject in samples, tables and ids. runc, the base of ratios, is the first in
/// order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(in crate::bench) enum SubjectName {
    /// containerd's own shim, and runc.
    Runc,
    /// A shim of another project.
    Peer(PeerName),
    /// This project's runtime.
    Ours,
}

/// The name that `--peer` gives to a shim of another project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::bench) struct PeerName(String);

impl PeerName {
    /// Parses a name that is not a built-in subject's.
    ///
    /// # Errors
    /// If it is not a DNS label, or is the name of a built-in subject.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let is_letter = |c: char| c.is_ascii_lowercase();
        let is_label = text.starts_with(is_letter)
            && !text.ends_with('-')
            && text.len() <= MAX_LENGTH
            && text
                .chars()
                .all(|c| is_letter(c) || c.is_ascii_digit() || c == '-');
        if !is_label {
            bail!(
                "the name {text:?} is not valid: expected a letter, then at most {} letters, \
                 digits and hyphens, all in lower case, \
                 without a hyphen at the end",
                MAX_LENGTH - 1
            );
        }
        if [SubjectName::Runc, SubjectName::Ours]
            .iter()
            .any(|name| name.as_str() == text)
        {
            bail!("the name {text:?} is that of a built-in subject: expected another name");
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the name as text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl SubjectName {
    /// Returns the name as text.
    pub(in crate::bench) fn as_str(&self) -> &str {
        match self {
            Self::Runc => "runc",
            Self::Peer(name) => name.as_str(),
            Self::Ours => "ours",
        }
    }
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<SubjectName> for String {
    fn from(name: SubjectName) -> Self {
        name.as_str().to_owned()
    }
}

impl TryFrom<String> for SubjectName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        [Self::Runc, Self::Ours]
            .into_iter()
            .find(|name| name.as_str() == text)
            .map_or_else(|| PeerName::parse(&text).map(Self::Peer), Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_name_is_a_dns_label_that_no_built_in_subject_has() {
        for name in ["foo", "f", "foo-2", &"a".repeat(32)] {
            assert_eq!(PeerName::parse(name).unwrap().0, name);
        }
        for name in [
            "",
            "2foo",
            "Foo",
            "foo-",
            "-foo",
            "foo.2",
            "foo_2",
            "foo bar",
            "föö",
            &"a".repeat(33),
            "runc",
            "ours",
        ] {
            let error = PeerName::parse(name).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{name:?}")) && error.contains("expected"),
                "{error}"
            );
        }
    }

    #[test]
    fn subject_name_is_read_back_as_written() {
        for (text, name) in [
            ("\"runc\"", SubjectName::Runc),
            ("\"ours\"", SubjectName::Ours),
            (
                "\"foo\"",
                SubjectName::Peer(PeerName::parse("foo").unwrap()),
            ),
        ] {
            assert_eq!(serde_json::to_string(&name).unwrap(), text);
            assert_eq!(serde_json::from_str::<SubjectName>(text).unwrap(), name);
        }
        serde_json::from_str::<SubjectName>("\"Foo\"").unwrap_err();
    }
}
