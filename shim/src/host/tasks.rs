//! The containers of a host by id, from the moment their Create begins.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use crate::error::{CreateError, TaskError};

/// The containers of a host.
#[derive(Debug)]
pub(crate) struct Tasks<T> {
    inner: Mutex<Inner<T>>,
    /// The number of containers; a change wakes receivers.
    count: watch::Sender<usize>,
}

#[derive(Debug)]
struct Inner<T> {
    slots: HashMap<String, Slot<T>>,
    /// None while containers are taken.
    closed: Option<Closed>,
}

#[derive(Debug)]
enum Slot<T> {
    Creating,
    Created(Arc<T>),
}

/// The reason why a host takes no more containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// A process that forks containers was lost.
    Draining,
    /// No launcher pointed to it for a while.
    Idle,
}

/// Keeps an id from being used twice while its container is created.
#[derive(Debug)]
#[must_use = "dropping this releases the id"]
pub(crate) struct Reservation<'a, T> {
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
        // Every change is one insert, remove or assignment, so the state is consistent even if its
        // last holder panicked.
        failures::lock_ignoring_poison(&self.inner)
    }

    /// Returns the task of container `id`.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn get(&self, id: &str) -> Result<Arc<T>, TaskError> {
        match self.lock().slots.get(id) {
            Some(Slot::Created(task)) => Ok(Arc::clone(task)),
            _ => Err(TaskError::NotFound { id: id.to_owned() }),
        }
    }

    /// Returns the task of container `id`; waits for a Create of it that is under way: a Delete
    /// that follows a cancelled Create must remove the result.
    ///
    /// # Errors
    /// If there is none, or it could not be created.
    pub(crate) async fn get_when_created(&self, id: &str) -> Result<Arc<T>, TaskError> {
        let mut changed = self.count.subscribe();
        while matches!(self.lock().slots.get(id), Some(Slot::Creating)) {
            // Fails only if the sender is gone, and `self` owns it.
            let _ = changed.changed().await;
        }
        self.get(id)
    }

    /// Reserves `id` for a container that is about to be created; `limit` is the maximum number of
    /// containers.
    ///
    /// # Errors
    /// If the id is in use, the host is full, or it takes no more containers.
    pub(crate) fn reserve(
        &self,
        id: &str,
        limit: Option<u32>,
    ) -> Result<Reservation<'_, T>, TaskError> {
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
        inner.slots.insert(id.to_owned(), Slot::Creating);
        self.count.send_replace(inner.slots.len());
        Ok(Reservation {
            tasks: self,
            id: id.to_owned(),
        })
    }

    /// Removes a container.
    pub(crate) fn remove(&self, id: &str) {
        let mut inner = self.lock();
        inner.slots.remove(id);
        self.count.send_replace(inner.slots.len());
    }

    /// Takes no more containers; returns the number of existing ones.
    pub(crate) fn close(&self, why: Closed) -> usize {
        let mut inner = self.lock();
        // The first reason explains what follows.
        inner.closed.get_or_insert(why);
        // Wakes a waiter for the last container, too.
        self.count.send_replace(inner.slots.len());
        inner.slots.len()
    }

    /// Returns whether no more containers are taken.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed.is_some()
    }

    /// Returns the number of containers as a value to watch.
    pub(crate) fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }
}

impl<T> Reservation<'_, T> {
    /// Completes the reservation with the created container.
    pub(crate) fn fill(self, task: Arc<T>) {
        self.tasks
            .lock()
            .slots
            .insert(self.id.clone(), Slot::Created(task));
    }
}

impl<T> Drop for Reservation<'_, T> {
    fn drop(&mut self) {
        let mut inner = self.tasks.lock();
        if matches!(inner.slots.get(&self.id), Some(Slot::Creating)) {
            inner.slots.remove(&self.id);
        }
        self.tasks.count.send_replace(inner.slots.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_reserved_once_and_free_again_after_a_failure() {
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
        tasks.remove("c1");
        assert_eq!(*tasks.count().borrow(), 0);
    }

    #[test]
    fn host_that_is_about_to_end_takes_no_container() {
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
                "a container that came at the last moment is served"
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
    async fn delete_waits_for_a_create_that_is_under_way() {
        let tasks = Arc::new(Tasks::<u8>::default());
        assert!(matches!(
            tasks.get_when_created("c1").await,
            Err(TaskError::NotFound { .. })
        ));
        for made in [Some(1), None] {
            let reservation = tasks.reserve("c1", None).unwrap();
            let in_task = Arc::clone(&tasks);
            let waits = tokio::spawn(async move { in_task.get_when_created("c1").await });
            // A change of another container does not end the wait.
            drop(tasks.reserve("c2", None).unwrap());
            tokio::task::yield_now().await;
            assert!(!waits.is_finished());
            match made {
                Some(task) => reservation.fill(Arc::new(task)),
                None => drop(reservation),
            }
            assert_eq!(waits.await.unwrap().ok().as_deref().copied(), made);
            tasks.remove("c1");
        }
    }
}
