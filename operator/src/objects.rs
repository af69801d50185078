//! The objects that actions create, as values.
//!
//! * [`mod@installer_job`]: the Job that changes a node.
//! * [`runtime_class`]: the RuntimeClass that pods name.
//! * [`runtime_node`]: the status of a runtime on a node.
//! * [`quantity`]: comparison of resource quantities.

pub mod installer_job;
pub mod quantity;
pub mod runtime_class;
pub mod runtime_node;

pub use installer_job::installer_job;

#[cfg(test)]
mod tests;
