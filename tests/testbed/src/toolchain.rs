//! Compiling guests: C and Rust for wasm32-wasip1, static native programs for sidecars.
