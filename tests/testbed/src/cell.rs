//! A private pid, mount and (if asked) network namespace, whose processes and mounts die with its first process.
