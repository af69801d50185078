//! Main files of real nodes.

use crate::daemon::Daemon;

/// kind's file: schema 2 also on containerd 2, with a handler of its own, a base specification and
/// a snapshotter.
pub(crate) const KIND: &str = r#"version = 2

[proxy_plugins."fuse-overlayfs"]
  type = "snapshot"
  address = "/run/containerd-fuse-overlayfs.sock"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.example/pause:3.10"
  tolerate_missing_hugetlb_controller = true
  restrict_oom_score_adj = false

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
  default_runtime_name = "runc"
  discard_unpacked_layers = true

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  base_runtime_spec = "/etc/containerd/cri-base.json"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    SystemdCgroup = true

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.test-handler]
  runtime_type = "io.containerd.runc.v2"
  base_runtime_spec = "/etc/containerd/cri-base.json"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.test-handler.options]
    SystemdCgroup = true
"#;

/// As [`KIND`], in schema 3.
pub(crate) const THREE: &str = r#"# Kept by hand.
version = 3   # containerd 2

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "native"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "registry.example/pause:3.10"

[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = "runc"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    base_runtime_spec = "/etc/containerd/cri-base.json"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.test-handler]
    runtime_type = "io.containerd.runc.v2"
"#;

/// Returns the main file of this project's node image.
pub(crate) fn test_cluster() -> String {
    include_str!("../../node-image/containerd.toml")
        .replace("@PAUSE@", "registry.example/pause:3.10")
}

/// Returns a main file in the newest schema that all containerds of its major version support, with
/// handlers and options.
pub(crate) fn own(daemon: &Daemon) -> &'static str {
    if daemon.version.major < 2 {
        KIND
    } else {
        THREE
    }
}

/// Returns a main file that imports the rest, with the content of [`own`].
pub(crate) fn importing(daemon: &Daemon, pattern: &str) -> String {
    let schema = if daemon.version.major < 2 { 2 } else { 3 };
    format!("version = {schema}\nimports = [\"{pattern}\"]\n\n[debug]\n  level = \"info\"\n")
}
