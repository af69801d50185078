//! Image references: `registry/repository:tag@digest`.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, ensure};

/// The registry of a reference that names none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The host that serves [`DEFAULT_REGISTRY`].
const DEFAULT_HOST: &str = "index.docker.io";
/// Maximum number of a tag's characters.
const MAX_TAG: usize = 128;

/// A reference with its registry, and with a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// Returns the registry, `host` or `host:port`.
    pub(super) fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the host that serves the registry.
    pub(super) fn host(&self) -> &str {
        if self.registry == DEFAULT_REGISTRY {
            DEFAULT_HOST
        } else {
            &self.registry
        }
    }

    /// Returns the repository within the registry.
    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag.
    pub(super) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest.
    pub(super) fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// Returns what names the manifest within the repository: the digest, otherwise the tag.
    pub(super) fn version(&self) -> &str {
        self.digest().or(self.tag()).unwrap_or("latest")
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (text, None),
        };
        // A colon in front of a slash begins a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (rest, None),
        };
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => {
                (first, rest.to_owned())
            }
            _ => (DEFAULT_REGISTRY, name.to_owned()),
        };
        let (registry, repository) = match registry {
            DEFAULT_REGISTRY | DEFAULT_HOST if !repository.contains('/') => {
                (DEFAULT_REGISTRY, format!("library/{repository}"))
            }
            DEFAULT_HOST => (DEFAULT_REGISTRY, repository),
            _ => (registry, repository),
        };
        ensure!(is_registry(registry), "{registry:?} is not a registry");
        ensure!(
            repository.split('/').all(is_component),
            "{repository:?} is not a repository: it has lower-case letters, digits, and dots, \
             underscores and dashes between them"
        );
        ensure!(
            tag.as_deref().is_none_or(is_tag),
            "{:?} is not a tag",
            tag.as_deref().unwrap_or_default()
        );
        ensure!(
            digest.as_deref().is_none_or(is_digest),
            "{:?} is not sha256: and 64 hexadecimal digits",
            digest.as_deref().unwrap_or_default()
        );
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag,
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
        })
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    let is_label = |label: &str| {
        begins_and_ends(label, |byte| byte.is_ascii_alphanumeric())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(is_label)
        && !port.is_empty()
        && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_component(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    begins_and_ends(text, is_letter)
        && text
            .bytes()
            .all(|byte| is_letter(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(is_word)
        && text
            .bytes()
            .all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|digits| {
        digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Returns whether `text` has a first and a last byte, and both are `allowed`.
fn begins_and_ends(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    let ends = [text.bytes().next(), text.bytes().next_back()];
    ends.into_iter().all(|end| end.is_some_and(&allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn omitted_parts_have_dockers_defaults() {
        for (text, whole) in [
            ("app", "docker.io/library/app:latest"),
            ("team/app:1", "docker.io/team/app:1"),
            ("docker.io/app", "docker.io/library/app:latest"),
            ("index.docker.io/team/app", "docker.io/team/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/a/b-c", "localhost:5000/a/b-c:latest"),
            ("r.example/app:v1.0_x", "r.example/app:v1.0_x"),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), whole);
        }
    }

    #[test]
    fn digest_stands_beside_or_in_place_of_the_tag() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for tag in ["", ":1"] {
            let text = format!("r.example:443/app{tag}@{digest}");
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
            assert_eq!(reference.version(), digest);
        }
    }

    #[test]
    fn default_registry_is_served_by_another_host() {
        let reference: Reference = "team/app".parse().unwrap();
        assert_eq!(
            (reference.registry(), reference.host()),
            ("docker.io", "index.docker.io")
        );
    }

    #[test]
    fn malformed_reference_is_refused() {
        for text in [
            "",
            "/app",
            "r.example/",
            "r.example/App",
            "r.example/a//b",
            "r.example/-a",
            "r.example/app:",
            "r.example/app:-1",
            "r.example/app:1 2",
            "r.example/app@sha256:abc",
            "r.example/app@md5:00",
            "r.example:/app",
            "r.example:port/app",
            "r..example/app",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
