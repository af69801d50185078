//! The Go toolchain, and programs built from pinned Go modules.
