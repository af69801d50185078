//! `wasmedge-compile`: compiles one guest with LLVM.

fn main() {}
