//! The file that an entrypoint names, opened inside the container's root and nowhere else.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Command, GuestError};
use crate::bundle::Bundle;
use crate::paths::{GuestPath, HostPath};

/// A file of the container.
#[derive(Debug)]
pub struct Found {
    /// The open file.
    pub file: File,
    /// Its path in the container.
    pub path: GuestPath,
}

/// A container's files.
#[derive(Debug)]
pub enum Root<'a> {
    /// Of a container that is being made: its root as it was unpacked, and the mounts that will lie over it.
    Planned {
        /// What will be mounted.
        bundle: &'a Bundle,
        /// The unpacked root.
        root: BorrowedFd<'a>,
    },
    /// Of a container that runs: everything is where it belongs.
    Live(BorrowedFd<'a>),
}

/// Finds the file that `entrypoint` names: as a path from the working directory if it has a slash, else along the
/// command's `PATH` and then in the working directory (images of plain modules set no `PATH`).
///
/// # Errors
/// When there is no such file, or it is no file, or it cannot be opened.
pub fn find(command: Command<'_>, root: &Root<'_>, entrypoint: &str) -> Result<Found, GuestError> {
    let candidates = candidates(command, entrypoint);
    for path in &candidates {
        match open(root, path) {
            Ok(file) => return regular(file, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::NotADirectory => {}
            Err(source) => return Err(GuestError::Read { origin: path.to_string(), source }),
        }
    }
    let looked_at = candidates.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(GuestError::NotFound { entrypoint: entrypoint.to_owned(), looked_at })
}

fn candidates(command: Command<'_>, entrypoint: &str) -> Vec<GuestPath> {
    let in_cwd = GuestPath::resolve(command.cwd, Path::new(entrypoint));
    if entrypoint.contains('/') {
        return vec![in_cwd];
    }
    let path = command.env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
    let on_path =
        path.split(':').filter(|folder| !folder.is_empty()).map(|folder| GuestPath::resolve(Path::new(folder), Path::new(entrypoint)));
    on_path.chain([in_cwd]).collect()
}

/// Opens `path` below the container's root, or below the bind mount that will lie over it. Symbolic links are
/// followed as the container would follow them: they cannot lead out of that root (`RESOLVE_IN_ROOT`).
fn open(root: &Root<'_>, path: &GuestPath) -> io::Result<File> {
    match root {
        Root::Live(root) => open_below(root, path.as_path()),
        Root::Planned { bundle, root } => match bundle.bind_mount_over(path) {
            // The mount is the file itself; its source is the node's word, not the image's.
            Some((source, rest)) if rest.as_os_str().is_empty() => open_plain(&source),
            Some((source, rest)) => {
                let folder = rustix::fs::open(source.as_path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
                open_below(folder, &rest)
            }
            None => open_below(root, path.as_path()),
        },
    }
}

/// Opening a FIFO or a device must neither block nor act: only the type is looked at.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

fn open_plain(path: &HostPath) -> io::Result<File> {
    Ok(File::from(rustix::fs::open(path.as_path(), FLAGS, Mode::empty())?))
}

fn open_below(root: impl AsFd, path: &Path) -> io::Result<File> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        // EAGAIN: something was renamed while the kernel walked the path (openat2(2)).
        match rustix::fs::openat2(&root, path, FLAGS, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return Ok(File::from(result?)),
        }
    }
}

fn regular(file: File, path: &GuestPath) -> Result<Found, GuestError> {
    let metadata = file.metadata().map_err(|source| GuestError::Read { origin: path.to_string(), source })?;
    if metadata.is_file() {
        return Ok(Found { file, path: path.clone() });
    }
    let what = if metadata.is_dir() { "a folder" } else { "a device or pipe" };
    Err(GuestError::NotAFile { path: path.clone(), what })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::guest::read_all;

    fn bundle(folder: &Path, cwd: &str, env: &[&str]) -> Bundle {
        let mount = format!(r#"{{"destination":"/vol","type":"bind","source":"{}"}}"#, folder.join("volume").display());
        let spec = format!(
            r#"{{"ociVersion":"1.0.2","root":{{"path":"rootfs"}},"process":{{"user":{{"uid":0,"gid":0}},"cwd":"{cwd}","env":{}}},"mounts":[{mount}]}}"#,
            serde_json::to_string(env).unwrap()
        );
        Bundle::new(folder, serde_json::from_str(&spec).unwrap())
    }

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for folder in ["rootfs/bin", "rootfs/data", "volume/..v1"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        for file in ["rootfs/app.wasm", "rootfs/bin/tool.wasm", "rootfs/data/app.wasm", "volume/..v1/app.wasm", "secret"] {
            std::fs::write(at(file), file).unwrap();
        }
        symlink("../../secret", at("rootfs/up.wasm")).unwrap();
        symlink(at("secret"), at("rootfs/out.wasm")).unwrap();
        symlink("/data/app.wasm", at("rootfs/absolute.wasm")).unwrap();
        symlink("..v1", at("volume/..data")).unwrap();
        symlink("..data/app.wasm", at("volume/app.wasm")).unwrap();
        folder
    }

    fn content(folder: &Path, cwd: &str, env: &[&str], entrypoint: &str) -> Result<String, String> {
        let bundle = bundle(folder, cwd, env);
        let root = File::open(folder.join("rootfs")).unwrap();
        let root = Root::Planned { bundle: &bundle, root: root.as_fd() };
        let found = find(bundle.command(), &root, entrypoint).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(read_all(&found.file).unwrap()).unwrap())
    }

    #[test]
    fn an_entrypoint_is_found_as_a_container_would_find_it() {
        let tree = tree();
        for (cwd, env, entrypoint, expected) in [
            ("/", &[][..], "/app.wasm", "rootfs/app.wasm"),
            ("/", &[], "app.wasm", "rootfs/app.wasm"),
            ("/data", &[], "app.wasm", "rootfs/data/app.wasm"),
            ("/data", &[], "./app.wasm", "rootfs/data/app.wasm"),
            ("/data", &[], "/app.wasm", "rootfs/app.wasm"),
            ("/", &["PATH=/nowhere:/bin"], "tool.wasm", "rootfs/bin/tool.wasm"),
            ("/", &[], "/absolute.wasm", "rootfs/data/app.wasm"),
            ("/", &[], "/vol/app.wasm", "volume/..v1/app.wasm"),
        ] {
            assert_eq!(content(tree.path(), cwd, env, entrypoint).as_deref(), Ok(expected), "{entrypoint} in {cwd}");
        }
    }

    #[test]
    fn a_symbolic_link_never_leads_out_of_the_container() {
        let tree = tree();
        for entrypoint in ["/up.wasm", "/out.wasm", "/../secret"] {
            let error = content(tree.path(), "/", &[], entrypoint).unwrap_err();
            assert!(error.contains("no file"), "{entrypoint}: {error}");
        }
    }

    #[test]
    fn a_missing_file_is_reported_with_every_place_that_was_looked_at() {
        let tree = tree();
        let error = content(tree.path(), "/data", &["PATH=/bin"], "none.wasm").unwrap_err();
        assert!(error.contains("/bin/none.wasm, /data/none.wasm"), "{error}");
    }

    #[test]
    fn a_folder_is_no_guest() {
        let tree = tree();
        assert!(content(tree.path(), "/", &[], "/data").unwrap_err().contains("a folder"));
    }
}
