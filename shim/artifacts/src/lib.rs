//! Compiled guests of a node: published once, verified, mapped by every container.
//!
//! [`Store`] is the way in. All its calls block: a host runs them in threads that may.
//!
//! ```text
//! find(key) ── hit ──► Artifact ── folder_for_guest / file_for_guest ──► the guest's process
//!     │ miss
//! failure(key)         a compile that failed within the last day is not tried again
//!     │ none
//! lock(key)            one compile of a key on the node; find again: another one may have ended
//!     │
//! draft(&lock, space) ── folder() ──► the compile helper writes `artifact` there
//!     │                                    │ failed: remember_failure(&lock, failed)
//! publish(lock, draft, made) ──► Artifact
//! ```
//!
//! | module | content |
//! |---|---|
//! | [`key`], [`digest`], [`cpu`] | what decides which artifact serves a module: inputs, and the SHA-256 over them |
//! | [`record`] | what is known of an artifact, and of a failed compile; their files |
//! | [`error`] | reasons why a folder cannot be a store, and failures of its calls |
//! | [`store`] | [`Store`]: find, failures, usage; below it publish, list, verify, remove, garbage collection |
//! | [`artifact`] | [`Artifact`]: an entry in use, and its folder for a guest |
//! | [`lock`], [`draft`] | the lock of a key; the folder that a helper writes into |
//! | [`eviction`] | which entries go when the store is full: a pure decision |
//! | [`root`], [`folder`], [`mounts`], [`kernel`] | the edges: the store's folder and its checks; files by descriptors; detached mounts; system calls |
//!
//! # Files
//!
//! ```text
//! <root>/v1/entries/<key>/record.json     what the artifact is, with its digest
//! <root>/v1/entries/<key>/code/artifact   never changed; the only folder that a guest sees
//! <root>/v1/failures/<key>.json           a remembered failure
//! <root>/v1/locks/<key>                   flock: one compile of a key; dies with its holder
//! <root>/v1/drafts/<random>               an entry that is being published or removed
//! ```
//!
//! * An entry appears whole, by one rename, and disappears by one. A process that is killed in
//!   between leaves something in `drafts`, which the next garbage collection removes.
//! * Each [`Artifact`] holds a shared lock (flock) on the folder of its entry. Eviction needs the
//!   exclusive one. A guest's process never has a descriptor of that folder, so it cannot lock or
//!   unlock it.
//! * A helper writes into a file system in memory of its own, not into the store: it can neither
//!   fill the disk nor leave anything behind, and its memory is charged to its cgroup. Its result
//!   is copied, so no descriptor of the helper leads to the file that guests map.
//! * The time of an entry's folder is its last use. It decides the order of eviction, nothing else.

mod artifact;
pub mod cpu;
pub mod digest;
mod draft;
pub mod error;
mod eviction;
mod folder;
mod kernel;
pub mod key;
mod lock;
mod mounts;
pub mod record;
mod root;
mod store;

pub use artifact::Artifact;
pub use cpu::CpuFeatures;
pub use digest::Sha256Digest;
pub use draft::{ARTIFACT, Draft, DraftSpace};
pub use error::{StoreError, Unusable};
pub use key::{EngineName, Key, KeyInputs, Tier};
pub use lock::KeyLock;
pub use record::{Failed, Made, Record, RememberedFailure};
pub use root::{Percent, StoreOptions};
pub use store::{Collected, Content, Listed, Removal, Store, Usage, Use, Verdict};
