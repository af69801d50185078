//! Which containers a host has, by id, from the moment their Create begins.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::error::{CreateError, TaskError};

/// The containers of a host.
#[derive(Debug)]
pub struct Tasks<T> {
    inner: Mutex<Inner<T>>,
    /// How many there are; told at each change.
    count: watch::Sender<usize>,
}

#[derive(Debug)]
struct Inner<T> {
    slots: HashMap<String, Slot<T>>,
    /// None while more are taken.
    closed: Option<Closed>,
}

#[derive(Debug)]
enum Slot<T> {
    Making,
    Made(Arc<T>),
}

/// Why a host takes no more containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// A process that forks containers was lost.
    Draining,
    /// Nobody was sent to it for a while.
    Idle,
}

/// Keeps an id from being used twice while its container is made.
#[derive(Debug)]
#[must_use = "the id is free again when this is dropped"]
pub struct Reservation<'a, T> {
    tasks: &'a Tasks<T>,
    id: String,
}

impl<T> Default for Tasks<T> {
    fn default() -> Self {
        Self {
            inner: Mutex::new(Inner {
                slots: HashMap::new(),
                closed: None,
            }),
            count: watch::Sender::new(0),
        }
    }
}

impl<T> Tasks<T> {
    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // Every change is one insert, remove or assignment, so all is whole even if its last holder
        // panicked.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container's task.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, id: &str) -> Result<Arc<T>, TaskError> {
        match self.lock().slots.get(id) {
            Some(Slot::Made(task)) => Ok(Arc::clone(task)),
            _ => Err(TaskError::NotFound { id: id.to_owned() }),
        }
    }

    /// The same, after its Create if that is under way: whoever gave that up wants what comes of it
    /// gone.
    ///
    /// # Errors
    /// When there is none, or it could not be created.
    pub async fn once_made(&self, id: &str) -> Result<Arc<T>, TaskError> {
        let mut changed = self.count.subscribe();
        while matches!(self.lock().slots.get(id), Some(Slot::Making)) {
            // Fails only when the sender is gone, and that is `self`'s.
            let _ = changed.changed().await;
        }
        self.get(id)
    }

    /// Takes `id` for a container that is about to be made; `limit` is the most that there may be.
    ///
    /// # Errors
    /// When the id is taken, the host is full, or it takes no more containers.
    pub fn reserve(&self, id: &str, limit: Option<u32>) -> Result<Reservation<'_, T>, TaskError> {
        let mut inner = self.lock();
        match inner.closed {
            Some(Closed::Draining) => return Err(CreateError::Draining.into()),
            Some(Closed::Idle) => return Err(CreateError::Ending.into()),
            None => {}
        }
        if inner.slots.contains_key(id) {
            return Err(TaskError::Exists { id: id.to_owned() });
        }
        if let Some(limit) =
            limit.filter(|limit| inner.slots.len() >= usize::try_from(*limit).unwrap_or(usize::MAX))
        {
            return Err(CreateError::Full { limit }.into());
        }
        inner.slots.insert(id.to_owned(), Slot::Making);
        self.count.send_replace(inner.slots.len());
        Ok(Reservation {
            tasks: self,
            id: id.to_owned(),
        })
    }

    /// The container is gone.
    pub fn forget(&self, id: &str) {
        let mut inner = self.lock();
        inner.slots.remove(id);
        self.count.send_replace(inner.slots.len());
    }

    /// Takes no more containers; tells how many there are.
    pub fn close(&self, why: Closed) -> usize {
        let mut inner = self.lock();
        // The first reason is the one that explains what comes after it.
        inner.closed.get_or_insert(why);
        // Wakes who waits for the last container, too.
        self.count.send_replace(inner.slots.len());
        inner.slots.len()
    }

    /// Whether no more are taken.
    pub fn is_closed(&self) -> bool {
        self.lock().closed.is_some()
    }

    /// How many there are, told at each change.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }
}

impl<T> Reservation<'_, T> {
    /// The container exists.
    pub fn fill(self, task: Arc<T>) {
        self.tasks
            .lock()
            .slots
            .insert(self.id.clone(), Slot::Made(task));
    }
}

impl<T> Drop for Reservation<'_, T> {
    fn drop(&mut self) {
        let mut inner = self.tasks.lock();
        if matches!(inner.slots.get(&self.id), Some(Slot::Making)) {
            inner.slots.remove(&self.id);
        }
        self.tasks.count.send_replace(inner.slots.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_once_and_free_again_after_a_failure() {
        let tasks = Tasks::<u8>::default();
        let reservation = tasks.reserve("c1", None).unwrap();
        assert!(matches!(
            tasks.reserve("c1", None),
            Err(TaskError::Exists { .. })
        ));
        assert!(matches!(tasks.get("c1"), Err(TaskError::NotFound { .. })));
        drop(reservation);
        tasks.reserve("c1", None).unwrap().fill(Arc::new(1));
        assert_eq!(*tasks.get("c1").unwrap(), 1);
        assert!(matches!(
            tasks.reserve("c2", Some(1)),
            Err(TaskError::Create(CreateError::Full { limit: 1 }))
        ));
        tasks.forget("c1");
        assert_eq!(*tasks.count().borrow(), 0);
    }

    #[test]
    fn a_host_that_is_about_to_end_takes_no_container() {
        for (why, is_expected) in [
            (
                Closed::Idle,
                (|error| matches!(error, CreateError::Ending)) as fn(&CreateError) -> bool,
            ),
            (Closed::Draining, |error| {
                matches!(error, CreateError::Draining)
            }),
        ] {
            let tasks = Tasks::<u8>::default();
            tasks.reserve("c1", None).unwrap().fill(Arc::new(1));
            assert_eq!(
                tasks.close(why),
                1,
                "one came at the last moment, and is served"
            );
            assert!(
                matches!(tasks.reserve("c2", None),
                    Err(TaskError::Create(error)) if is_expected(&error)),
                "{why:?}"
            );
            assert_eq!(*tasks.get("c1").unwrap(), 1);
        }
    }

    #[tokio::test]
    async fn who_deletes_what_is_being_created_waits_for_what_comes_of_it() {
        let tasks = Arc::new(Tasks::<u8>::default());
        assert!(matches!(
            tasks.once_made("c1").await,
            Err(TaskError::NotFound { .. })
        ));
        for made in [Some(1), None] {
            let reservation = tasks.reserve("c1", None).unwrap();
            let in_task = Arc::clone(&tasks);
            let waits = tokio::spawn(async move { in_task.once_made("c1").await });
            // Of another container: no reason to stop waiting.
            drop(tasks.reserve("c2", None).unwrap());
            tokio::task::yield_now().await;
            assert!(!waits.is_finished());
            match made {
                Some(task) => reservation.fill(Arc::new(task)),
                None => drop(reservation),
            }
            assert_eq!(waits.await.unwrap().ok().as_deref().copied(), made);
            tasks.forget("c1");
        }
    }
}
