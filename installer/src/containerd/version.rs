//! The version of a containerd, from its program's output.

use std::fmt;

use super::error::ConfigError;

/// The version of a containerd program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Major version: changes with the configuration's form.
    pub major: u32,
    /// Minor version: changes with each release.
    pub minor: u32,
    /// Patch version.
    pub patch: u32,
}

impl Version {
    /// Parses a version, or the output of `containerd --version`: the first word that starts with
    /// three numbers. Suffixes of distributions (`2.2.2-bd1.34`, `1.6.20~ds1`, `2.2.0-k3s1`) are
    /// ignored.
    ///
    /// # Errors
    /// If no word is a version.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        text.split_whitespace()
            .find_map(Self::from_word)
            .ok_or_else(|| ConfigError::NoVersion {
                text: text.trim().to_owned(),
            })
    }

    fn from_word(word: &str) -> Option<Self> {
        let word = word.strip_prefix('v').unwrap_or(word);
        let mut parts = word.splitn(3, '.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        let rest = parts.next()?;
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let patch = rest[..digits].parse().ok()?;
        Some(Self {
            major,
            minor,
            patch,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            major,
            minor,
            patch,
        } = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_parsed_from_the_output_of_each_distribution() {
        for (text, version) in [
            (
                "containerd containerd.io v2.1.5 fcd43222d6b07379a4be9786bda52438f0dd16a1\n",
                "2.1.5",
            ),
            (
                "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1",
                "1.6.20",
            ),
            (
                "containerd github.com/containerd/containerd/v2 v2.4.2 ",
                "2.4.2",
            ),
            (
                "containerd github.com/k3s-io/containerd v2.2.2-k3s1 0000000",
                "2.2.2",
            ),
            (
                "containerd github.com/containerd/containerd/v2 2.2.2-bd1.34 0f3e",
                "2.2.2",
            ),
            (
                "containerd github.com/containerd/containerd v1.7.24-0ubuntu1~22.04.2",
                "1.7.24",
            ),
            (
                "containerd github.com/containerd/containerd/v2 2.3.0+unknown",
                "2.3.0",
            ),
            ("2.4.2", "2.4.2"),
        ] {
            assert_eq!(Version::parse(text).unwrap().to_string(), version, "{text}");
        }
    }

    #[test]
    fn error_of_an_output_without_version_quotes_it() {
        for text in [
            "",
            "containerd v2",
            "runc 1.2",
            "v2.x.1",
            "exec format error",
        ] {
            let error = Version::parse(text).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn versions_are_ordered_by_number() {
        let mut versions =
            ["2.10.0", "1.7.24", "2.2.9", "2.2.10"].map(|text| Version::parse(text).unwrap());
        versions.sort_unstable();
        assert_eq!(
            versions.map(|version| version.to_string()),
            ["1.7.24", "2.2.9", "2.2.10", "2.10.0"]
        );
    }
}
