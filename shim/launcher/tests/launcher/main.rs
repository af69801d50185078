//! The launcher as containerd runs it, in a bundle of the test's own with a stand-in for the host:
//! what it leaves when it is killed at any of its steps, when many run at once, and when a host is
//! gone.
//!
//! `delete` works on cgroups and mounts: its tests, which need root, are a program of their own.

#[cfg(test)]
mod bundle;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod start;
