//! Wasmtime as an engine for guests: one configuration for both sides, WASI, and a run.
