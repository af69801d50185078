//! What a host remembers of images: sixty pods of one image ask containerd for its layer once.
//!
//! Everything here is named by the digest of its bytes, so it is true for ever; it is bounded, and
//! what was not asked for longest goes first.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{MemfdFlags, SealFlags};

use super::ImageError;
use crate::workload::{digest, kind};

/// Most bytes of layers that are kept. A larger layer is read for each of its containers.
const LAYERS: u64 = 64 << 20;
/// Most bytes of manifests and indexes that are kept; one has about 1 KiB.
const MANIFESTS: u64 = 1 << 20;

/// A Wasm layer, checked.
#[derive(Debug)]
pub struct Layer {
    /// Digest of its bytes, as the manifest names it.
    pub digest: String,
    /// Image and layer, for messages.
    pub origin: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its first bytes: as many as tell what it is.
    pub head: Vec<u8>,
    /// Its bytes, in memory that nobody can change.
    pub file: Arc<File>,
}

/// Layers and manifests of images.
#[derive(Debug, Default)]
pub struct Kept {
    layers: Mutex<Shelf<Arc<Layer>>>,
    manifests: Mutex<Shelf<Arc<[u8]>>>,
}

impl Kept {
    /// The layer with this digest, as one of `image`: several images can have it.
    pub(super) fn layer(&self, image: &str, digest: &str) -> Option<Arc<Layer>> {
        let layer = lock(&self.layers).take(digest)?;
        let origin = origin(image, digest);
        if layer.origin == origin {
            return Some(layer);
        }
        let Layer {
            digest,
            size,
            head,
            file,
            ..
        } = &*layer;
        Some(Arc::new(Layer {
            digest: digest.clone(),
            origin,
            size: *size,
            head: head.clone(),
            file: Arc::clone(file),
        }))
    }

    /// Checks the bytes of a layer and keeps them.
    pub(super) fn keep_layer(
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
        let head = bytes[..bytes.len().min(kind::HEAD)].to_owned();
        let origin = origin(&image, &digest);
        let layer = Arc::new(Layer {
            digest: digest.clone(),
            origin,
            size: bytes.len() as u64,
            head,
            file,
        });
        lock(&self.layers).put(digest, Arc::clone(&layer), layer.size, LAYERS);
        Ok(layer)
    }

    /// The manifest or index with this digest.
    pub(super) fn manifest(&self, digest: &str) -> Option<Arc<[u8]>> {
        lock(&self.manifests).take(digest)
    }

    /// Keeps the bytes of a manifest or index.
    pub(super) fn keep_manifest(&self, digest: String, bytes: Vec<u8>) -> Arc<[u8]> {
        let bytes: Arc<[u8]> = bytes.into();
        lock(&self.manifests).put(digest, Arc::clone(&bytes), bytes.len() as u64, MANIFESTS);
        bytes
    }
}

fn origin(image: &str, digest: &str) -> String {
    format!("layer {digest} of image {image}")
}

/// Values by digest, the one that was asked for last at the end.
#[derive(Debug)]
struct Shelf<T>(Vec<(String, T, u64)>);

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Clone> Shelf<T> {
    fn take(&mut self, digest: &str) -> Option<T> {
        let place = self.0.iter().position(|(kept, ..)| kept == digest)?;
        let entry = self.0.remove(place);
        let value = entry.1.clone();
        self.0.push(entry);
        Some(value)
    }

    fn put(&mut self, digest: String, value: T, size: u64, limit: u64) {
        if size > limit {
            return;
        }
        self.0.retain(|(kept, ..)| *kept != digest);
        self.0.push((digest, value, size));
        while self.0.iter().map(|(.., size)| size).sum::<u64>() > limit {
            self.0.remove(0);
        }
    }
}

/// A lock whose holder panicked guards a list that is whole after every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file in memory that holds `bytes` and that nobody can change any more.
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
    fn a_kept_layer_bears_the_name_of_the_image_that_is_run() {
        let kept = Kept::default();
        let digest = digest::of(b"guest");
        kept.keep_layer("first:1".to_owned(), digest.clone(), b"guest")
            .unwrap();
        for image in ["second:1", "first:1"] {
            assert_eq!(
                kept.layer(image, &digest).unwrap().origin,
                format!("layer {digest} of image {image}")
            );
        }
    }

    #[test]
    fn what_was_not_asked_for_longest_goes_first() {
        let mut shelf = Shelf::default();
        for name in ["a", "b", "c"] {
            shelf.put(name.to_owned(), name, 4, 12);
        }
        assert_eq!(shelf.take("a"), Some("a"));
        shelf.put("d".to_owned(), "d", 4, 12);
        assert_eq!(
            (
                shelf.take("b"),
                shelf.take("a"),
                shelf.take("c"),
                shelf.take("d")
            ),
            (None, Some("a"), Some("c"), Some("d"))
        );
    }

    #[test]
    fn what_is_larger_than_all_room_is_not_kept_and_drives_nothing_out() {
        let mut shelf = Shelf::default();
        shelf.put("a".to_owned(), 1, 4, 12);
        shelf.put("b".to_owned(), 2, 13, 12);
        assert_eq!((shelf.take("a"), shelf.take("b")), (Some(1), None));
    }
}
