//! Kind clusters.
