//! A cache of layers and manifests: sixty pods of one image read its layer from containerd once.
//!
//! Entries are named by the digest of their bytes, so they are never stale. The cache is bounded
//! and evicts the least recently used entry first.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex};

use rustix::fs::{MemfdFlags, SealFlags};

use super::ImageError;
use crate::workload::digest::{self, Digest};

/// Capacity for layers in bytes. A larger layer is read for each of its containers.
const LAYER_CAPACITY: u64 = 64 << 20;
/// Capacity for manifests and indexes in bytes; one has about 1 KiB.
const MANIFEST_CAPACITY: u64 = 1 << 20;

/// A Wasm layer with bytes that match its digest.
#[derive(Debug)]
pub(crate) struct Layer {
    /// The digest of its bytes.
    pub(crate) digest: Digest,
    /// Image and layer, for messages.
    pub(crate) origin: String,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Its bytes, in sealed memory.
    pub(crate) file: Arc<File>,
}

/// The cached layers and manifests of images.
#[derive(Debug, Default)]
pub(crate) struct ImageCache {
    layers: Mutex<LruCache<Arc<Layer>>>,
    manifests: Mutex<LruCache<Arc<[u8]>>>,
}

impl ImageCache {
    /// Returns the layer with this digest, as a layer of `image`: several images can have it.
    pub(super) fn layer(&self, image: &str, digest: &str) -> Option<Arc<Layer>> {
        let layer = failures::lock_ignoring_poison(&self.layers).get(digest)?;
        let origin = origin(image, digest);
        if layer.origin == origin {
            return Some(layer);
        }
        let Layer {
            digest, size, file, ..
        } = &*layer;
        Some(Arc::new(Layer {
            digest: *digest,
            origin,
            size: *size,
            file: Arc::clone(file),
        }))
    }

    /// Checks the bytes of a layer and caches them.
    pub(super) fn insert_layer(
        &self,
        image: String,
        digest: String,
        bytes: &[u8],
    ) -> Result<Arc<Layer>, ImageError> {
        let found = digest::of_same_algorithm(&digest, bytes);
        if found != digest {
            return Err(ImageError::Damaged {
                image,
                digest,
                found,
            });
        }
        let file = match sealed(bytes) {
            Err(source) => {
                return Err(ImageError::Memory {
                    image,
                    digest,
                    source,
                });
            }
            Ok(file) => Arc::new(file),
        };
        let origin = origin(&image, &digest);
        let layer = Arc::new(Layer {
            // The manifest may name a digest by another algorithm.
            digest: Digest::from_image_digest(&digest).unwrap_or_else(|_| Digest::of(bytes)),
            origin,
            size: bytes.len() as u64,
            file,
        });
        failures::lock_ignoring_poison(&self.layers).insert(
            digest,
            Arc::clone(&layer),
            layer.size,
            LAYER_CAPACITY,
        );
        Ok(layer)
    }

    /// Returns the manifest or index with this digest.
    pub(super) fn manifest(&self, digest: &str) -> Option<Arc<[u8]>> {
        failures::lock_ignoring_poison(&self.manifests).get(digest)
    }

    /// Caches the bytes of a manifest or index.
    pub(super) fn insert_manifest(&self, digest: String, bytes: Vec<u8>) -> Arc<[u8]> {
        let bytes: Arc<[u8]> = bytes.into();
        let (value, size) = (Arc::clone(&bytes), bytes.len() as u64);
        failures::lock_ignoring_poison(&self.manifests).insert(
            digest,
            value,
            size,
            MANIFEST_CAPACITY,
        );
        bytes
    }
}

fn origin(image: &str, digest: &str) -> String {
    format!("layer {digest} of image {image}")
}

/// Values by digest, the most recently used at the end.
#[derive(Debug)]
struct LruCache<T>(Vec<(String, T, u64)>);

impl<T> Default for LruCache<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Clone> LruCache<T> {
    fn get(&mut self, digest: &str) -> Option<T> {
        let place = self.0.iter().position(|(kept, ..)| kept == digest)?;
        let entry = self.0.remove(place);
        let value = entry.1.clone();
        self.0.push(entry);
        Some(value)
    }

    fn insert(&mut self, digest: String, value: T, size: u64, capacity: u64) {
        if size > capacity {
            return;
        }
        self.0.retain(|(kept, ..)| *kept != digest);
        self.0.push((digest, value, size));
        while self.0.iter().map(|(.., size)| size).sum::<u64>() > capacity {
            self.0.remove(0);
        }
    }
}

/// Returns a sealed file in memory that holds `bytes`.
fn sealed(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create(
        "guest",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?);
    file.write_all(bytes)?;
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW,
    )?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::read_all;

    #[test]
    fn sealed_bytes_cannot_be_changed() {
        let mut file = sealed(b"guest").unwrap();
        assert!(file.write_all(b"x").is_err());
        assert_eq!(read_all(&file, u64::MAX).unwrap(), b"guest");
    }

    #[test]
    fn cached_layer_has_the_name_of_the_image_that_runs() {
        let kept = ImageCache::default();
        let digest = Digest::of(b"guest").to_image_digest();
        kept.insert_layer("first:1".to_owned(), digest.clone(), b"guest")
            .unwrap();
        for image in ["second:1", "first:1"] {
            assert_eq!(
                kept.layer(image, &digest).unwrap().origin,
                format!("layer {digest} of image {image}")
            );
        }
    }

    #[test]
    fn layer_has_its_sha256_whatever_the_manifest_names() {
        let kept = ImageCache::default();
        for like in ["sha256:", "sha384:", "sha512:"] {
            let digest = digest::of_same_algorithm(like, b"guest");
            let layer = kept.insert_layer("image:1".to_owned(), digest, b"guest");
            assert_eq!(layer.unwrap().digest, Digest::of(b"guest"), "{like}");
        }
    }

    #[test]
    fn least_recently_used_entry_is_evicted_first() {
        let mut cache = LruCache::default();
        for name in ["a", "b", "c"] {
            cache.insert(name.to_owned(), name, 4, 12);
        }
        assert_eq!(cache.get("a"), Some("a"));
        cache.insert("d".to_owned(), "d", 4, 12);
        assert_eq!(
            (
                cache.get("b"),
                cache.get("a"),
                cache.get("c"),
                cache.get("d")
            ),
            (None, Some("a"), Some("c"), Some("d"))
        );
    }

    #[test]
    fn entry_above_the_capacity_is_not_cached_and_evicts_nothing() {
        let mut cache = LruCache::default();
        cache.insert("a".to_owned(), 1, 4, 12);
        cache.insert("b".to_owned(), 2, 13, 12);
        assert_eq!((cache.get("a"), cache.get("b")), (Some(1), None));
    }
}
