//! Placeholder.
pub(crate) const TESTS: &[crate::node::Test] = &[];
