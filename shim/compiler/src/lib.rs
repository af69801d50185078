//! The compile helper: its requests, its start by a host, its confinement.
