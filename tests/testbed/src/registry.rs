//! An OCI registry of a run's own.
