//! Texts of errors and panics, and locks that survive a panic.

use std::any::Any;
use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub mod text;

/// Returns the texts of an error and its sources, outermost first. A source whose text ends the
/// text before it is left out: a transparent wrapper shows it already.
pub fn causes(error: &dyn Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut last = texts[0].clone();
    let mut source = error.source();
    while let Some(inner) = source {
        let text = inner.to_string();
        if !last.ends_with(&text) {
            texts.push(text.clone());
        }
        last = text;
        source = inner.source();
    }
    texts
}

/// Returns an error with its sources on one line, separated by colons.
pub fn chain(error: &dyn Error) -> String {
    causes(error).join(": ")
}

/// Returns the message of a caught panic.
pub fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// Locks a mutex even if a panic poisoned it: for values that each use leaves consistent, so that a
/// panic elsewhere does no harm.
pub fn lock_ignoring_poison<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[derive(Debug)]
    struct Link(&'static str, Option<Box<Link>>);

    impl fmt::Display for Link {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Link {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|source| source as _)
        }
    }

    fn linked(texts: &[&'static str]) -> Link {
        let (first, rest) = texts.split_first().unwrap();
        Link(first, (!rest.is_empty()).then(|| Box::new(linked(rest))))
    }

    #[test]
    fn chain_has_each_cause_once() {
        for (texts, expected) in [
            (&["cannot create"][..], "cannot create"),
            (
                &["cannot create", "cannot create", "no space"],
                "cannot create: no space",
            ),
            (&["a: b", "b", "c"], "a: b: c"),
            (&["a", "b", "a"], "a: b: a"),
        ] {
            assert_eq!(chain(&linked(texts)), expected);
        }
    }

    #[test]
    fn panic_message_is_known_for_literals_and_formatted_texts() {
        let number = 7;
        let literal = catch_unwind(|| panic!("plain")).unwrap_err();
        let formatted = catch_unwind(|| panic!("number {number}")).unwrap_err();
        let other = catch_unwind(|| std::panic::panic_any(7)).unwrap_err();
        assert_eq!(
            [&literal, &formatted, &other].map(|payload| panic_message(payload.as_ref())),
            ["plain", "number 7", "no message"]
        );
    }

    #[test]
    fn poisoned_lock_is_usable() {
        let mutex = Mutex::new(1);
        let result = catch_unwind(AssertUnwindSafe(|| {
            let _guard = mutex.lock().unwrap();
            panic!("poisons it");
        }));
        assert!(result.is_err() && mutex.is_poisoned());
        assert_eq!(*lock_ignoring_poison(&mutex), 1);
    }
}
