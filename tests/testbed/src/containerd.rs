//! A containerd of a run's own: root, state, socket and namespace.
