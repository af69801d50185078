//! The resolver, against trees of files and against the kernel.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use proptest::prelude::*;
use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::io::Errno;

use super::tree::{MountTree, TreeEntry};
use super::*;

fn bind(source: &Path, destination: &str) -> PlannedMount {
    PlannedMount {
        destination: destination.into(),
        source: MountSource::Bind {
            path: source.to_owned(),
            recursive: true,
        },
    }
}

fn empty(destination: &str) -> PlannedMount {
    PlannedMount {
        destination: destination.into(),
        source: MountSource::Empty,
    }
}

/// The target of a path: the device and number of a file, a folder, or an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    File(u64, u64),
    Folder,
    Nowhere(Errno),
}

fn seen(entry: Result<OwnedFd, Errno>) -> Target {
    match entry.and_then(fstat) {
        Err(errno) => Target::Nowhere(errno),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Target::Folder,
        Ok(stat) => Target::File(stat.st_dev, stat.st_ino),
    }
}

fn resolved(root: &Path, mounts: &[PlannedMount], paths: &[String]) -> Vec<Target> {
    let tree = MountTree::of_planned(File::open(root).unwrap().into(), mounts).unwrap();
    let one = |path: &String| match tree.open(Path::new(path)) {
        Ok(TreeEntry::EmptyFolder) => Target::Folder,
        Ok(TreeEntry::Opened(fd)) => seen(Ok(fd)),
        Err(errno) => Target::Nowhere(errno),
    };
    paths.iter().map(one).collect()
}

fn file(path: &Path) -> Target {
    seen(Ok(File::open(path).unwrap().into()))
}

/// Returns a root with symbolic links and files, and two volumes.
fn fixture() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    for folder in [
        "root/data",
        "root/bin",
        "root/deep/er",
        "volume/v1",
        "volume/inner",
        "other",
    ] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    for file in [
        "root/app.wasm",
        "root/data/app.wasm",
        "volume/v1/app.wasm",
        "volume/app.wasm",
        "other/app.wasm",
        "secret",
    ] {
        fs::write(at(file), file).unwrap();
    }
    symlink("/data", at("root/app")).unwrap();
    symlink("/data/v1", at("volume/current")).unwrap();
    symlink("../../secret", at("root/up")).unwrap();
    symlink(at("secret"), at("root/out")).unwrap();
    symlink("loop", at("root/loop")).unwrap();
    symlink("/run/late", at("root/dangling")).unwrap();
    folder
}

#[test]
fn lookup_resolves_links_and_mounts_together() {
    let fixture = fixture();
    let at = |path: &str| fixture.path().join(path);
    let mounts = [
        bind(&at("volume"), "/data"),
        bind(&at("other"), "/data/inner"),
        empty("/dev"),
        bind(&at("secret"), "/dev/log"),
    ];
    for (path, expected) in [
        ("/app.wasm", file(&at("root/app.wasm"))),
        // A link of the root into a volume: not the file that the volume covers.
        ("/app/app.wasm", file(&at("volume/app.wasm"))),
        // An absolute link within a volume.
        ("/data/current/app.wasm", file(&at("volume/v1/app.wasm"))),
        ("/data/inner/app.wasm", file(&at("other/app.wasm"))),
        ("/data/inner/../app.wasm", file(&at("volume/app.wasm"))),
        // A link is followed before `..`.
        ("/data/current/../app.wasm", file(&at("volume/app.wasm"))),
        ("/app/../app.wasm", file(&at("root/app.wasm"))),
        ("/dev/log", file(&at("secret"))),
        ("/dev/null", Target::Nowhere(Errno::NOENT)),
        ("/dev", Target::Folder),
        ("/app.wasm/", Target::Nowhere(Errno::NOTDIR)),
        ("/app.wasm/..", Target::Nowhere(Errno::NOTDIR)),
        ("/loop", Target::Nowhere(Errno::LOOP)),
        ("/dangling", Target::Nowhere(Errno::NOENT)),
        ("/..", Target::Folder),
    ] {
        assert_eq!(
            resolved(&at("root"), &mounts, &[path.to_owned()]),
            [expected],
            "{path}"
        );
    }
}

#[test]
fn lookup_never_leaves_the_containers_files() {
    let fixture = fixture();
    let at = |path: &str| fixture.path().join(path);
    for path in [
        "/up",
        "/out",
        "/../secret",
        "/data/../../secret",
        "/deep/er/../../../../secret",
    ] {
        let targets = resolved(
            &at("root"),
            &[bind(&at("volume"), "/data")],
            &[path.to_owned()],
        );
        assert_eq!(targets, [Target::Nowhere(Errno::NOENT)], "{path}");
    }
}

#[test]
fn lookup_takes_links_and_missing_folders_as_destinations_of_mounts() {
    let fixture = fixture();
    let at = |path: &str| fixture.path().join(path);
    // The first is behind a link of the root, the second behind a dangling link.
    let mounts = [
        bind(&at("volume"), "/app"),
        bind(&at("other"), "/dangling/below"),
        bind(&at("other"), "/app/current/new"),
    ];
    for (path, expected) in [
        ("/data/app.wasm", file(&at("volume/app.wasm"))),
        ("/run/late/below/app.wasm", file(&at("other/app.wasm"))),
        ("/run/late", Target::Folder),
        ("/data/v1/new/app.wasm", file(&at("other/app.wasm"))),
    ] {
        assert_eq!(
            resolved(&at("root"), &mounts, &[path.to_owned()]),
            [expected],
            "{path}"
        );
    }
}

#[test]
fn lookup_shows_the_last_of_mounts_at_one_place() {
    let fixture = fixture();
    let at = |path: &str| fixture.path().join(path);
    let mounts = [
        bind(&at("volume"), "/data"),
        bind(&at("other"), "/data/inner"),
        bind(&at("other"), "/data"),
    ];
    let paths = ["/data/app.wasm", "/data/inner/app.wasm"].map(str::to_owned);
    let expected = [file(&at("other/app.wasm")), Target::Nowhere(Errno::NOENT)];
    assert_eq!(resolved(&at("root"), &mounts, &paths), expected);
}

#[test]
fn reopen_opens_regular_files_only() {
    let folder = tempfile::tempdir().unwrap();
    let proc = File::open("/proc").unwrap();
    fs::write(folder.path().join("file"), "text").unwrap();
    let fifo = folder.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    let open = |path: &Path| {
        let path = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        reopened::open(path.as_fd(), proc.as_fd()).map(drop)
    };
    assert_eq!(open(&folder.path().join("file")), Ok(()));
    for path in [
        &fifo,
        &folder.path().join("socket"),
        Path::new("/dev/null"),
        folder.path(),
    ] {
        assert_eq!(open(path), Err(Errno::INVAL), "{}", path.display());
    }
}

/// Returns the kernel's results: the set-up of a guest's process makes the mounts, in a mount
/// namespace of a thread's own.
fn by_kernel(root: &Path, mounts: &[PlannedMount], paths: &[String]) -> Vec<Target> {
    use nix::sched::{CloneFlags, unshare};
    use rustix::mount::{
        MountPropagationFlags, OpenTreeFlags, mount_bind, mount_change, open_tree,
    };
    std::thread::scope(|scope| {
        let in_thread = || {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
            mount_change(
                "/",
                MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
            )
            .unwrap();
            let clone = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE;
            let source = |mount: &PlannedMount| match &mount.source {
                MountSource::Bind { path, .. } => open_tree(rustix::fs::CWD, path, clone).unwrap(),
                MountSource::Empty => crate::detached::make("tmpfs", [], 0).unwrap(),
            };
            let sources: Vec<OwnedFd> = mounts.iter().map(source).collect();
            mount_bind(root, root).unwrap();
            rustix::process::chroot(root).unwrap();
            rustix::process::chdir("/").unwrap();
            let top = rustix::fs::open(
                "/",
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .unwrap();
            for (mount, tree) in mounts.iter().zip(sources) {
                crate::child::attach(&top, &tree, &mount.destination).unwrap();
            }
            paths
                .iter()
                .map(|path| {
                    seen(rustix::fs::open(
                        path,
                        OFlags::PATH | OFlags::CLOEXEC,
                        Mode::empty(),
                    ))
                })
                .collect()
        };
        scope.spawn(in_thread).join().unwrap()
    })
}

/// Generates names of folders and files; few, so that paths meet existing files.
fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned)
}

fn path(max: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(name(), 1..=max).prop_map(|names| format!("/{}", names.join("/")))
}

/// Generates paths with `.`, `..` and slashes at their end.
fn probe() -> impl Strategy<Value = String> {
    let word = prop_oneof![6 => name(), 1 => Just("..".to_owned()), 1 => Just(".".to_owned()),
        2 => Just("file".to_owned())];
    (
        prop::collection::vec(word, 1..=6),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(words, slash)| format!("/{}{}", words.join("/"), if slash { "/" } else { "" }))
}

#[derive(Debug, Clone)]
enum Made {
    Folder,
    File,
    Link(String),
}

fn made() -> impl Strategy<Value = Made> {
    let relative =
        (0..3_usize, path(2)).prop_map(|(up, path)| format!("{}{}", "../".repeat(up), &path[1..]));
    prop_oneof![4 => Just(Made::Folder), 2 => Just(Made::File), 3 => path(3).prop_map(Made::Link),
        2 => relative.prop_map(Made::Link)]
}

fn tree() -> impl Strategy<Value = Vec<(String, Made)>> {
    prop::collection::vec((path(3), made()), 0..12)
}

/// Makes a tree; entries that cannot be made are skipped. Each folder at the top has a file.
fn plant(root: &Path, tree: &[(String, Made)]) {
    fs::create_dir_all(root).unwrap();
    fs::write(root.join("file"), "").unwrap();
    for (path, made) in tree {
        let place = root.join(&path[1..]);
        // Below a link of the tree, it could be made outside the tree on this machine.
        let is_behind_link = place
            .ancestors()
            .skip(1)
            .take_while(|above| *above != root)
            .any(Path::is_symlink);
        if is_behind_link
            || place
                .parent()
                .is_none_or(|parent| fs::create_dir_all(parent).is_err())
        {
            continue;
        }
        let _ = match made {
            Made::Folder => fs::create_dir(&place).and_then(|()| fs::write(place.join("file"), "")),
            Made::File => fs::write(&place, ""),
            Made::Link(target) if place.symlink_metadata().is_err() => symlink(target, &place),
            Made::Link(_) => Ok(()),
        };
    }
}

/// Returns whether the set-up can make this mount; only then the kernel's results are compared. A
/// destination behind a file or a loop of links cannot be made, a folder is not mounted on a file,
/// and nothing is mounted over the root.
fn is_possible(root: &Path, before: &[PlannedMount], mount: &PlannedMount) -> bool {
    let Ok(tree) = MountTree::of_planned(File::open(root).unwrap().into(), before) else {
        return false;
    };
    match tree.open(&mount.destination) {
        Ok(TreeEntry::EmptyFolder) | Err(Errno::NOENT) => {}
        Ok(TreeEntry::Opened(fd)) => {
            let (found, top) = (
                fstat(&fd).unwrap(),
                fstat(File::open(root).unwrap()).unwrap(),
            );
            if FileType::from_raw_mode(found.st_mode) != FileType::Directory
                || found.st_ino == top.st_ino
            {
                return false;
            }
        }
        Err(_) => return false,
    }
    let with: Vec<PlannedMount> = before.iter().chain([mount]).cloned().collect();
    MountTree::of_planned(File::open(root).unwrap().into(), &with).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    #[ignore = "needs root"]
    fn lookup_agrees_with_the_kernel_on_random_links_and_mounts(
        root in tree(),
        volumes in prop::collection::vec((tree(), path(3), prop::bool::weighted(0.2)), 0..5),
        paths in prop::collection::vec(probe(), 40),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("root");
        plant(&top, &root);
        let mut mounts: Vec<PlannedMount> = Vec::new();
        for (index, (tree, destination, is_empty)) in volumes.iter().enumerate() {
            let source = folder.path().join(format!("volume{index}"));
            plant(&source, tree);
            let mount = if *is_empty { empty(destination) } else { bind(&source, destination) };
            if is_possible(&top, &mounts, &mount) {
                mounts.push(mount);
            }
        }
        // First, as the set-up makes missing destinations.
        let ours = resolved(&top, &mounts, &paths);
        let kernels = by_kernel(&top, &mounts, &paths);
        for (path, (ours, kernels)) in paths.iter().zip(ours.iter().zip(&kernels)) {
            prop_assert_eq!(ours, kernels, "{} with {:?}", path, mounts);
        }
    }
}
