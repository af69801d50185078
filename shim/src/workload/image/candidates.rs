//! Resolution of a [`Claim`] to the Wasm layer of one image, or to a refusal.

use std::collections::BTreeMap;

use oci_spec::image::{Arch, Descriptor, ImageIndex, ImageManifest, MediaType, Platform};
use serde::de::DeserializeOwned;

use super::claim::{Claim, CriImage};
use super::{ContentStore, ImageCache, ImageError, select_layer};

/// Maximum size of a manifest or index; containerd refuses larger ones.
const MAX_MANIFEST: u64 = 4 << 20;

/// Returns the image's name and its Wasm layer; none if there is no image, or it has no such layer.
pub(super) async fn layer(
    claim: Claim,
    store: &impl ContentStore,
    cache: &ImageCache,
) -> Result<Option<(String, Descriptor)>, ImageError> {
    let images = Images { store, cache };
    let (image, layer) = match claim {
        Claim::Nothing => return Ok(None),
        Claim::Name(image) => {
            let target = images
                .target(&image)
                .await?
                .ok_or_else(|| ImageError::ImageGone {
                    image: image.clone(),
                })?;
            let layer = select_layer(&image, &images.manifest(&image, target).await?)?;
            (image, layer)
        }
        Claim::Cri(cri) => images.layer_of_cri(cri).await?,
    };
    Ok(layer.map(|layer| (image, layer)))
}

/// A manifest that may be the image's.
#[derive(Debug)]
struct Candidate {
    digest: String,
    /// Its Wasm layer, or the error.
    layer: Result<Option<Descriptor>, ImageError>,
}

impl Candidate {
    fn new(image: &str, digest: String, manifest: &ImageManifest) -> Self {
        Self {
            digest,
            layer: select_layer(image, manifest),
        }
    }

    /// Returns the program of a container of this image.
    fn program(&self) -> CandidateProgram {
        match &self.layer {
            Ok(Some(layer)) => CandidateProgram::Layer(layer.digest().to_string()),
            Ok(None) => CandidateProgram::FileOfRoot,
            Err(_) => CandidateProgram::Refused,
        }
    }
}

/// The program of a container of a candidate.
#[derive(Debug, PartialEq, Eq)]
enum CandidateProgram {
    /// The Wasm layer with this digest.
    Layer(String),
    /// A file of its root file system.
    FileOfRoot,
    /// None: it cannot be run.
    Refused,
}

/// The result of comparing candidates.
#[derive(Debug)]
enum Choice {
    /// There are none.
    Nothing,
    /// There is one, or all have the same program.
    One(Box<Candidate>),
    /// Their programs differ.
    Several(Vec<Candidate>),
}

fn choose(mut candidates: Vec<Candidate>) -> Choice {
    let first = candidates.first().map(Candidate::program);
    let same = candidates.len() == 1
        || first.is_some_and(|first| {
            first != CandidateProgram::Refused
                && candidates.iter().all(|other| other.program() == first)
        });
    match candidates.pop() {
        None => Choice::Nothing,
        Some(one) if same => Choice::One(Box::new(one)),
        Some(one) => {
            candidates.push(one);
            Choice::Several(candidates)
        }
    }
}

struct Images<'a, S> {
    store: &'a S,
    cache: &'a ImageCache,
}

impl<S: ContentStore> Images<'_, S> {
    async fn layer_of_cri(
        &self,
        cri: CriImage,
    ) -> Result<(String, Option<Descriptor>), ImageError> {
        let Some(image) = cri.name.clone() else {
            return self.layer_by_id(cri).await;
        };
        let Some(target) = self.target(&image).await? else {
            if cri.is_abbreviated_by(&image) {
                return self.layer_by_id(cri).await;
            }
            return Err(ImageError::ImageGone { image });
        };
        let config = cri.config;
        match choose(self.candidates(&image, target, &config).await?) {
            Choice::Nothing => Err(ImageError::Moved { image, config }),
            Choice::One(one) => one.layer.map(|layer| (image, layer)),
            Choice::Several(several) => {
                let manifests = joined(several.into_iter().map(|candidate| candidate.digest));
                Err(ImageError::AmbiguousIndex {
                    image,
                    manifests,
                    config,
                })
            }
        }
    }

    /// Returns the layer of the only image with this id. Manifests without an image's name, which
    /// tools leave behind, are ignored.
    async fn layer_by_id(&self, cri: CriImage) -> Result<(String, Option<Descriptor>), ImageError> {
        let CriImage {
            config,
            any_name: image,
            ..
        } = cri;
        let candidates = self.candidates_by_id(&image, &config).await?;
        let several = match choose(candidates) {
            Choice::Nothing => return Err(ImageError::ImageGone { image }),
            Choice::One(one) => return one.layer.map(|layer| (image, layer)),
            Choice::Several(several) => several,
        };
        let mut names = self.names(&several, &config).await?;
        let pullable = several
            .into_iter()
            .filter(|candidate| names.contains_key(&candidate.digest))
            .collect();
        match choose(pullable) {
            Choice::Nothing => Err(ImageError::ImageGone { image }),
            Choice::One(one) => one.layer.map(|layer| (image, layer)),
            Choice::Several(several) => {
                let images = several.iter().map(|candidate| {
                    let names = names.remove(&candidate.digest).unwrap_or_default();
                    format!("{} (manifest {})", names.join(" alias "), candidate.digest)
                });
                Err(ImageError::Ambiguous {
                    images: joined(images),
                    config,
                })
            }
        }
    }

    async fn target(&self, image: &str) -> Result<Option<Descriptor>, ImageError> {
        self.store
            .target(image)
            .await
            .map_err(|source| ImageError::Store {
                what: format!("image {image}"),
                source,
            })
    }

    /// Returns the manifests with this configuration: `target` or, if it is an index, its entries.
    async fn candidates(
        &self,
        image: &str,
        target: Descriptor,
        config: &str,
    ) -> Result<Vec<Candidate>, ImageError> {
        let entries = if is_index(&target) {
            self.present(image, &target).await?.0
        } else {
            vec![target]
        };
        let mut candidates = Vec::new();
        let mut nested = None;
        for entry in entries {
            if is_index(&entry) {
                nested = Some(entry.digest().to_string());
                continue;
            }
            let manifest: ImageManifest = self.read_json(image, entry.digest().as_ref()).await?;
            if manifest.config().digest().as_ref() == config {
                candidates.push(Candidate::new(image, entry.digest().to_string(), &manifest));
            }
        }
        match nested {
            Some(digest) if candidates.is_empty() => Err(ImageError::NestedIndex {
                image: image.to_owned(),
                digest,
            }),
            _ => Ok(candidates),
        }
    }

    /// Returns every manifest on this node with this configuration. containerd's labels name those
    /// that it stored itself; the container's own image may be stored by another tool.
    async fn candidates_by_id(
        &self,
        image: &str,
        config: &str,
    ) -> Result<Vec<Candidate>, ImageError> {
        let mut candidates = match self.target(image).await? {
            Some(target) => self.candidates(image, target, config).await?,
            None => Vec::new(),
        };
        let what = || format!("the manifests of image id {config}");
        let found = self
            .store
            .manifests_of(config)
            .await
            .map_err(|source| ImageError::Store {
                what: what(),
                source,
            })?;
        for digest in found {
            if candidates
                .iter()
                .all(|candidate| candidate.digest != digest)
            {
                let manifest: ImageManifest = self.read_json(image, &digest).await?;
                // A label may hold the digest for another reason.
                if manifest.config().digest().as_ref() == config {
                    candidates.push(Candidate::new(image, digest, &manifest));
                }
            }
        }
        Ok(candidates)
    }

    /// Returns the names of each candidate; one without a name is omitted. CRI names the image that
    /// came last by its id, which counts if there is no other name.
    async fn names(
        &self,
        candidates: &[Candidate],
        id: &str,
    ) -> Result<BTreeMap<String, Vec<String>>, ImageError> {
        let images = self
            .store
            .images()
            .await
            .map_err(|source| ImageError::Store {
                what: "its images".to_owned(),
                source,
            })?;
        let (mut names, mut by_id) = (BTreeMap::<String, Vec<String>>::new(), BTreeMap::new());
        for (name, target) in images {
            let mut digests = vec![target.digest().to_string()];
            if is_index(&target) {
                let index: ImageIndex = self.read_json(&name, target.digest().as_ref()).await?;
                digests.extend(
                    index
                        .manifests()
                        .iter()
                        .map(|entry| entry.digest().to_string()),
                );
            }
            for candidate in candidates
                .iter()
                .filter(|candidate| digests.contains(&candidate.digest))
            {
                let names = if name == id { &mut by_id } else { &mut names };
                names
                    .entry(candidate.digest.clone())
                    .or_default()
                    .push(name.clone());
            }
        }
        Ok(if names.is_empty() { by_id } else { names })
    }

    /// Returns the manifest: `target` or, if it is an index, an entry of it.
    async fn manifest(&self, image: &str, target: Descriptor) -> Result<ImageManifest, ImageError> {
        let mut target = target;
        if is_index(&target) {
            let (present, entries) = self.present(image, &target).await?;
            let chosen = select_manifest(&present).ok_or_else(|| ImageError::NoManifest {
                image: image.to_owned(),
                entries,
            })?;
            if is_index(chosen) {
                return Err(ImageError::NestedIndex {
                    image: image.to_owned(),
                    digest: chosen.digest().to_string(),
                });
            }
            target = chosen.clone();
        }
        self.read_json(image, target.digest().as_ref()).await
    }

    /// Returns the entries of an index that are on this node, and the number of all entries.
    async fn present(
        &self,
        image: &str,
        index: &Descriptor,
    ) -> Result<(Vec<Descriptor>, usize), ImageError> {
        let index: ImageIndex = self.read_json(image, index.digest().as_ref()).await?;
        let mut present = Vec::new();
        for entry in index.manifests() {
            let digest = entry.digest().to_string();
            if self
                .store
                .has(&digest)
                .await
                .map_err(|source| ImageError::Store {
                    what: format!("manifest {digest}"),
                    source,
                })?
            {
                present.push(entry.clone());
            }
        }
        Ok((present, index.manifests().len()))
    }

    async fn read_json<T: DeserializeOwned>(
        &self,
        image: &str,
        digest: &str,
    ) -> Result<T, ImageError> {
        let digest = digest.to_owned();
        let bytes = if let Some(bytes) = self.cache.manifest(&digest) {
            bytes
        } else {
            let bytes = self.store.read(&digest, MAX_MANIFEST).await;
            let bytes = bytes.map_err(|source| ImageError::Store {
                what: format!("manifest {digest} of image {image}"),
                source,
            })?;
            self.cache.insert_manifest(digest.clone(), bytes)
        };
        serde_json::from_slice(&bytes).map_err(|source| ImageError::Manifest {
            image: image.to_owned(),
            digest,
            source,
        })
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(" and ")
}

fn is_index(descriptor: &Descriptor) -> bool {
    match descriptor.media_type() {
        MediaType::ImageIndex => true,
        MediaType::Other(name) => {
            name == "application/vnd.docker.distribution.manifest.list.v2+json"
        }
        _ => false,
    }
}

/// Selects from the manifests on this node: WebAssembly before this machine's platform before any
/// other that a container can have (build attestations have the platform `unknown`).
fn select_manifest(present: &[Descriptor]) -> Option<&Descriptor> {
    let rank = |descriptor: &Descriptor| match descriptor
        .platform()
        .as_ref()
        .map(Platform::architecture)
    {
        Some(Arch::Wasm) => Some(0),
        Some(Arch::Other(name)) if name == "unknown" => None,
        Some(Arch::Other(name)) if name.starts_with("wasm") => Some(0),
        Some(architecture) if *architecture == Arch::default() => Some(1),
        _ => Some(2),
    };
    present
        .iter()
        .filter_map(|descriptor| Some((rank(descriptor)?, descriptor)))
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, descriptor)| descriptor)
}
