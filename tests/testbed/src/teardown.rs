//! Undoing what a run did, also when it is interrupted, and sweeping what a killed run left.
