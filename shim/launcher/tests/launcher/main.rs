//! Tests of the launcher as containerd runs it, in a bundle of their own with a stand-in for the
//! host: killed at each of its steps, run concurrently, and after the death of a host.
//!
//! `delete` works on cgroups and mounts: its tests, which need root, are a program of their own.

#[cfg(test)]
mod bundle;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod start;
