//! The artifact stores of a host's handlers: on the node's disk, or in memory where the disk cannot
//! be used.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use artifact_store::{Percent, Store, StoreOptions, Unusable};
use runtime_options::HandlerOptions;

/// How long a folder that cannot be a store is not tried again.
const RETRY_INTERVAL: Duration = Duration::from_mins(1);
/// Maximum size of the store in memory.
const MAX_MEMORY_BYTES: u64 = 256 << 20;

/// The stores that a host has opened, by their options.
#[derive(Debug, Default)]
pub(crate) struct Stores {
    opened: Mutex<HashMap<Place, Opened>>,
    in_memory: Mutex<Option<Arc<Store>>>,
}

/// The options of a store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    folder: PathBuf,
    max_bytes: u64,
    max_disk_percent: u8,
}

#[derive(Debug)]
enum Opened {
    Usable(Arc<Store>),
    Unusable { tried: Instant },
}

impl Stores {
    /// Returns the store of a handler. Where its folder cannot be used, that is the host's own
    /// store in memory: its artifacts serve this host alone, and are gone with it. Blocks.
    ///
    /// # Errors
    /// If the kernel does not allow a store in memory either.
    pub(crate) fn of(&self, options: &HandlerOptions) -> Result<Arc<Store>, Unusable> {
        let place = Place {
            folder: options.artifact_store.as_path().to_owned(),
            max_bytes: u64::from(options.artifact_store_max_mib) << 20,
            max_disk_percent: options.artifact_store_max_disk_percent,
        };
        // Held while the folder is opened: no two threads try it at once.
        let mut opened = failures::lock_ignoring_poison(&self.opened);
        match opened.get(&place) {
            Some(Opened::Usable(store)) => return Ok(Arc::clone(store)),
            Some(Opened::Unusable { tried }) if tried.elapsed() < RETRY_INTERVAL => {
                return self.in_memory();
            }
            _ => {}
        }
        match open(&place) {
            Ok(store) => {
                let store = Arc::new(store);
                opened.insert(place, Opened::Usable(Arc::clone(&store)));
                Ok(store)
            }
            Err(error) => {
                tracing::warn!(
                    store = %place.folder.display(),
                    "the artifact store cannot be used, so compiled guests are kept in this host's \
                     memory, at most {} MiB: {}",
                    MAX_MEMORY_BYTES >> 20,
                    crate::text::chain(&error)
                );
                let tried = Instant::now();
                opened.insert(place, Opened::Unusable { tried });
                self.in_memory()
            }
        }
    }

    fn in_memory(&self) -> Result<Arc<Store>, Unusable> {
        let mut in_memory = failures::lock_ignoring_poison(&self.in_memory);
        if let Some(store) = &*in_memory {
            return Ok(Arc::clone(store));
        }
        let store = Arc::new(Store::in_memory(MAX_MEMORY_BYTES)?);
        *in_memory = Some(Arc::clone(&store));
        Ok(store)
    }
}

fn open(place: &Place) -> Result<Store, Unusable> {
    let store = Store::open(StoreOptions {
        folder: place.folder.clone(),
        max_bytes: place.max_bytes,
        max_disk_share: Percent::new(place.max_disk_percent).unwrap_or(Percent::WHOLE),
    })?;
    // What killed processes left, and what other limits allowed. A store that cannot be cleaned can
    // be used.
    match store.collect_garbage() {
        Ok(collected) => tracing::debug!(store = %place.folder.display(), ?collected, "opened"),
        Err(error) => tracing::warn!(
            store = %place.folder.display(),
            "cannot clean the artifact store: {}",
            crate::text::chain(&error)
        ),
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use runtime_options::NodeFolder;

    use super::*;

    fn options(folder: &std::path::Path) -> HandlerOptions {
        HandlerOptions {
            artifact_store: NodeFolder::new(folder.to_str().unwrap()).unwrap(),
            ..HandlerOptions::default()
        }
    }

    #[test]
    fn folder_that_cannot_be_a_store_is_replaced_by_one_store_in_memory() {
        let folder = tempfile::Builder::new().prefix("stores").tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let stores = Stores::default();
        let unusable = || stores.of(&options(&file)).unwrap();
        assert!(Arc::ptr_eq(&unusable(), &unusable()));
        let usable = || stores.of(&options(&folder.path().join("store"))).unwrap();
        assert!(Arc::ptr_eq(&usable(), &usable()));
        assert!(!Arc::ptr_eq(&usable(), &unusable()));
    }
}
