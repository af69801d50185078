//! `wasmtime-compile`: compiles one guest with Cranelift.

fn main() {}
