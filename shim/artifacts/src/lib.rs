//! Compiled guests of a node: published once, verified, mapped by every container.
