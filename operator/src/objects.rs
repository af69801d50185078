//! The objects that actions make, as values.
//!
//! * [`mod@installer_job`]: the Job that changes a node. * [`runtime_class`]: what pods name. *
//!   [`runtime_node`]: how far a runtime is on a node.

pub mod installer_job;
pub mod quantity;
pub mod runtime_class;
pub mod runtime_node;

pub use installer_job::installer_job;

#[cfg(test)]
mod tests;
