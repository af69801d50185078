//! An error and its causes on one line: how errors cross from a worker into the host.

use std::error::Error;

/// `error` and each of its causes, outermost first; a cause that its effect's text repeats already
/// is left out.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn each_cause_is_told_once() {
        let error = Layer(
            "cannot create",
            Some(Box::new(Layer(
                "cannot create",
                Some(Box::new(Layer("no space", None))),
            ))),
        );
        assert_eq!(chain(&error), "cannot create: no space");
    }
}
