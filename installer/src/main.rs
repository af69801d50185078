//! Puts the runtime on a node.
fn main() {}
