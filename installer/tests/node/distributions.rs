//! Distributions as trees of files.
