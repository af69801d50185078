//! The image that a container is to run, from containerd's record of the container.
//!
//! The field `image` of the record is the name that `ctr` and nerdctl were given. CRI writes the
//! first of the image's names there, in sorted order. So for CRI's containers its own metadata
//! counts, which no pod can write: the image's id, and the name in the pod if kubelet passes it on.
//! The annotation `io.kubernetes.cri.image-name` is not better: containerd 1.x writes the first
//! name there, and plugins can change a spec's annotations.

use serde::Deserialize;
use thiserror::Error;

const DEFAULT_REGISTRY: &str = "docker.io";

/// The part of containerd's record of a container that names its image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ContainerRecord {
    /// The field `image`; empty if there is no image.
    pub(crate) image: String,
    /// Whether CRI made the container.
    pub(crate) is_cri: bool,
    /// CRI's metadata of the container, as JSON.
    pub(crate) metadata: Option<Vec<u8>>,
}

/// The image that a container is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// None: the container has a root file system only.
    Nothing,
    /// The image with exactly this name.
    Name(String),
    /// The image of a pod's container.
    Cri(CriImage),
}

/// The image of a pod's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CriImage {
    /// The name in the pod, in the form in which CRI stores names; none if the request has the
    /// image's id alone.
    pub(crate) name: Option<String>,
    /// The image's id: the digest of its configuration.
    pub(crate) config: String,
    /// One of the image's names.
    pub(crate) any_name: String,
}

/// containerd's record does not name the container's image.
#[derive(Debug, Error)]
pub(crate) enum ClaimError {
    /// CRI created the container, and there is no metadata.
    #[error(
        "containerd's record has no CRI metadata: this version of containerd is not supported, \
         please report it"
    )]
    NoMetadata,
    /// The metadata has another form.
    #[error(
        "containerd's CRI metadata cannot be read: this version of containerd is not supported, \
         please report it"
    )]
    Metadata(#[source] serde_json::Error),
    /// The image's id is not a digest.
    #[error(
        "containerd's CRI metadata has the image id {0:?}, which is not a digest: create the \
         container again"
    )]
    Id(String),
}

impl Claim {
    /// Reads the record.
    ///
    /// # Errors
    /// If CRI created the container, and its metadata is missing or has another form.
    pub(crate) fn of(record: ContainerRecord) -> Result<Self, ClaimError> {
        if !record.is_cri {
            return Ok(if record.image.is_empty() {
                Self::Nothing
            } else {
                Self::Name(record.image)
            });
        }
        let metadata = record.metadata.ok_or(ClaimError::NoMetadata)?;
        let Versioned { metadata } =
            serde_json::from_slice(&metadata).map_err(ClaimError::Metadata)?;
        let config = metadata.image_ref;
        if !is_digest(&config) {
            return Err(ClaimError::Id(config));
        }
        let ImageSpec {
            image,
            user_specified_image,
        } = metadata.config.image;
        let name = if user_specified_image.is_empty() {
            image
        } else {
            user_specified_image
        };
        let name = (!name.is_empty() && !is_digest(&name)).then(|| normalized(&name));
        Ok(Self::Cri(CriImage {
            name,
            config,
            any_name: record.image,
        }))
    }
}

impl CriImage {
    /// Returns whether `name` is a prefix of the image's id, which CRI accepts in place of a name.
    pub(crate) fn is_abbreviated_by(&self, name: &str) -> bool {
        let name = name
            .strip_prefix("docker.io/library/")
            .and_then(|name| name.strip_suffix(":latest"));
        let digits = self.config.split_once(':').map(|(_, digits)| digits);
        name.zip(digits)
            .is_some_and(|(name, digits)| digits.starts_with(name))
    }
}

#[derive(Deserialize)]
struct Versioned {
    #[serde(rename = "Metadata")]
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "ImageRef")]
    image_ref: String,
    #[serde(rename = "Config")]
    config: Config,
}

#[derive(Deserialize)]
struct Config {
    image: ImageSpec,
}

#[derive(Deserialize)]
struct ImageSpec {
    #[serde(default)]
    image: String,
    #[serde(default)]
    user_specified_image: String,
}

fn is_digest(text: &str) -> bool {
    let is_digits = |text: &str, count: usize| {
        text.len() == count && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    match text.split_once(':') {
        Some(("sha256", digits)) => is_digits(digits, 64),
        Some(("sha384", digits)) => is_digits(digits, 96),
        Some(("sha512", digits)) => is_digits(digits, 128),
        _ => false,
    }
}

/// Returns `name` as CRI stores it: with its registry, and with either a tag or a digest. The rules
/// are those of the module github.com/distribution/reference.
fn normalized(name: &str) -> String {
    let (rest, digest) = name
        .split_once('@')
        .map_or((name, None), |(rest, digest)| (rest, Some(digest)));
    // A colon before the last slash belongs to a registry's port.
    let path_start = rest.rfind('/').map_or(0, |at| at + 1);
    let (repository, tag) = match rest[path_start..].split_once(':') {
        Some((last, tag)) => (&rest[..path_start + last.len()], tag),
        None => (rest, "latest"),
    };
    let is_registry = |first: &str| {
        first.contains(['.', ':'])
            || first == "localhost"
            || first.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    let (registry, path) = match repository
        .split_once('/')
        .filter(|(first, _)| is_registry(first))
    {
        Some(("index.docker.io", path)) => (DEFAULT_REGISTRY, path),
        Some(split) => split,
        None => (DEFAULT_REGISTRY, repository),
    };
    let library = if registry == DEFAULT_REGISTRY && !path.contains('/') {
        "library/"
    } else {
        ""
    };
    match digest {
        // CRI drops the tag of a name that has both.
        Some(digest) => format!("{registry}/{library}{path}@{digest}"),
        None => format!("{registry}/{library}{path}:{tag}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// Returns the claim of a CRI container with these images in its request.
    fn claim(image: &str, user_specified: Option<&str>) -> Result<Claim, ClaimError> {
        let mut spec = serde_json::json!({"image": image});
        if let Some(name) = user_specified {
            spec["user_specified_image"] = name.into();
        }
        let config =
            serde_json::json!({"metadata": {"name": "c"}, "image": spec, "command": ["/app.wasm"]});
        let metadata = serde_json::json!({"Version": "v1", "Metadata": {"ID": "c1",
            "Config": config, "ImageRef": ID}});
        Claim::of(ContainerRecord {
            image: "a.example/first:1".to_owned(),
            is_cri: true,
            metadata: Some(metadata.to_string().into_bytes()),
        })
    }

    #[test]
    fn claim_of_cri_is_the_name_in_the_pod_and_never_the_first_of_the_images_names() {
        for (image, user_specified, expected) in [
            // containerd 2.0 and later with kubelet 1.28 and later.
            (ID, Some("b.example/app:1"), Some("b.example/app:1")),
            // containerd 1.x with kubelet.
            (ID, None, None),
            (ID, Some(""), None),
            // Other clients of CRI give a name.
            ("b.example/app:1", None, Some("b.example/app:1")),
            // A pod that names its image by id.
            (ID, Some(ID), None),
            (ID, Some("app"), Some("docker.io/library/app:latest")),
        ] {
            let expected = CriImage {
                name: expected.map(str::to_owned),
                config: ID.to_owned(),
                any_name: "a.example/first:1".to_owned(),
            };
            assert_eq!(
                claim(image, user_specified).unwrap(),
                Claim::Cri(expected),
                "{image} {user_specified:?}"
            );
        }
    }

    #[test]
    fn claim_of_another_client_is_the_name_that_it_gave() {
        let of = |image: &str| {
            Claim::of(ContainerRecord {
                image: image.to_owned(),
                ..ContainerRecord::default()
            })
            .unwrap()
        };
        assert_eq!(
            (of("app"), of("")),
            (Claim::Name("app".to_owned()), Claim::Nothing)
        );
    }

    #[test]
    fn claim_of_cri_without_readable_metadata_is_an_error() {
        let of = |metadata: Option<&str>| {
            let metadata = metadata.map(|text| text.as_bytes().to_vec());
            Claim::of(ContainerRecord {
                image: "app".to_owned(),
                is_cri: true,
                metadata,
            })
        };
        assert!(matches!(of(None), Err(ClaimError::NoMetadata)));
        for text in ["", "{}", r#"{"Version":"v2","Metadata":{"ImageRef":"x"}}"#] {
            assert!(
                matches!(of(Some(text)), Err(ClaimError::Metadata(_))),
                "{text}"
            );
        }
        let odd = r#"{"Version":"v1","Metadata":{"ImageRef":"sha256:\"x","Config":{"image":{}}}}"#;
        assert!(matches!(of(Some(odd)), Err(ClaimError::Id(_))));
    }

    #[test]
    fn names_are_normalized_as_cri_stores_them() {
        let digest = format!("@{ID}");
        for (name, expected) in [
            ("app", "docker.io/library/app:latest"),
            ("app:1", "docker.io/library/app:1"),
            ("team/app", "docker.io/team/app:latest"),
            ("docker.io/app", "docker.io/library/app:latest"),
            ("index.docker.io/team/app:1", "docker.io/team/app:1"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            (
                "registry.example/a/b/app:v1.2",
                "registry.example/a/b/app:v1.2",
            ),
            ("10.0.0.1:5000/app:1", "10.0.0.1:5000/app:1"),
        ] {
            assert_eq!(normalized(name), expected, "{name}");
        }
        for (name, expected) in [
            ("app", "docker.io/library/app"),
            ("app:1", "docker.io/library/app"),
            ("r.example:5000/app:1", "r.example:5000/app"),
        ] {
            assert_eq!(
                normalized(&format!("{name}{digest}")),
                format!("{expected}{digest}"),
                "{name}"
            );
        }
    }

    #[test]
    fn id_may_be_abbreviated() {
        let image = CriImage {
            name: None,
            config: ID.to_owned(),
            any_name: String::new(),
        };
        assert!(image.is_abbreviated_by(&normalized("e3b0c442")));
        assert!(
            !image.is_abbreviated_by(&normalized("e3b0c443"))
                && !image.is_abbreviated_by("r.example/e3b0:latest")
        );
    }
}
