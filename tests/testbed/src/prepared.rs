//! What `cargo xtask test` hands to the test programs.
