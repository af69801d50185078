//! Which containers of a node run by which shim: containerd keeps it in each container's bundle.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::host::{HostPath, HostRoot};

/// Where containerd keeps bundles, below its state folder: of tasks, and of sandboxes that a runtime makes.
const BUNDLES: [&str; 2] = ["io.containerd.runtime.v2.task", "io.containerd.sandbox.controller.v1.shim"];
/// The file of a bundle that says which program serves it. containerd writes it for every program that it starts since it
/// can be told where one lies: 1.6.0, the oldest that is installed on (`runtime/v2/binary.go` there). A container that its
/// sandbox's program serves without being started for it has none; the sandbox's stays as long.
const PROGRAM: &str = "shim-binary-path";

/// A container or a pod's sandbox that runs, or that containerd has not deleted yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Container {
    /// containerd's namespace, `k8s.io` for those of pods.
    pub namespace: String,
    /// Its identifier.
    pub id: String,
    /// The program that serves it, on the host.
    pub program: String,
}

impl Container {
    /// Whether it is served by a program below `folder`.
    pub fn uses(&self, folder: &HostPath) -> bool {
        Path::new(&self.program).starts_with(folder.as_str())
    }
}

/// The containers below containerd's state folder, in the order of their names.
///
/// # Errors
/// When the state folder, or a file in it, is there and cannot be read.
pub fn containers(root: &HostRoot, state: &HostPath) -> io::Result<Vec<Container>> {
    let mut found = Vec::new();
    for bundles in BUNDLES {
        for namespace in entries(&root.locate(&state.join(bundles))?)? {
            found.extend(containers_of(&namespace)?);
        }
    }
    found.sort();
    Ok(found)
}

/// The containers of one of containerd's namespaces.
fn containers_of(namespace: &Path) -> io::Result<Vec<Container>> {
    let mut found = Vec::new();
    for bundle in entries(namespace)? {
        let program = match fs::read_to_string(bundle.join(PROGRAM)) {
            Ok(program) => program,
            // One that is being made or deleted, or one whose sandbox says it.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(error),
        };
        found.push(Container { namespace: name(namespace), id: name(&bundle), program: program.trim().to_owned() });
    }
    Ok(found)
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_container_tells_the_program_that_serves_it() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("run/containerd/io.containerd.runtime.v2.task/k8s.io/abc");
        fs::create_dir_all(&bundle).unwrap();
        fs::create_dir_all(bundle.with_file_name("half")).unwrap();
        fs::write(bundle.join(PROGRAM), "/opt/wasmedge-runtime/a/0.1.0-0/bin/shim").unwrap();
        let sandbox = folder.path().join("run/containerd/io.containerd.sandbox.controller.v1.shim/k8s.io/pod");
        fs::create_dir_all(&sandbox).unwrap();
        fs::write(sandbox.join(PROGRAM), "/opt/wasmedge-runtime/b/0.1.0-0/bin/shim\n").unwrap();
        let root = HostRoot::new(folder.path());
        let path = |text| HostPath::new(text).unwrap();
        let found = containers(&root, &path("/run/containerd")).unwrap();
        let names: Vec<_> = found.iter().map(|found| (found.namespace.as_str(), found.id.as_str())).collect();
        assert_eq!(names, [("k8s.io", "abc"), ("k8s.io", "pod")]);
        assert!(found[1].uses(&path("/opt/wasmedge-runtime/b")));
        assert!(found[0].uses(&path("/opt/wasmedge-runtime/a")) && !found[0].uses(&path("/opt/wasmedge-runtime/b")));
        assert_eq!(containers(&root, &path("/run/other")).unwrap(), []);
    }
}
