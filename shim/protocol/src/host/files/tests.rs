//! The files of a key, used by threads in files of launchers and hosts: each opens the lock anew,
//! as a process would.

use std::collections::HashSet;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::thread;

use super::*;
use crate::host::Group;

fn key() -> HostKey {
    HostKey::new(
        "k8s.io",
        "/run/containerd/containerd.sock",
        Path::new("/opt/runtime"),
        "1",
        &Group::Node,
    )
}

fn host_files() -> (tempfile::TempDir, HostFiles) {
    let folder = tempfile::tempdir().unwrap();
    let files = HostFiles::new(folder.path().join("s"), key());
    (folder, files)
}

fn names(files: &HostFiles) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(&files.folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn pointer_leads_only_to_a_listening_host() {
    let (_folder, files) = host_files();
    let locked = files.lock().unwrap();
    assert_eq!(locked.current().unwrap(), None);
    let (socket, listener) = locked.listen().unwrap();
    assert_eq!(locked.current().unwrap().as_ref(), Some(&socket));
    drop(listener);
    assert_eq!(locked.current().unwrap(), None);
    assert_eq!(locked.pointed_socket().unwrap(), Some(socket));
}

#[test]
fn only_its_owner_can_connect_to_a_socket() {
    let (_folder, files) = host_files();
    let (socket, _listener) = files.lock().unwrap().listen().unwrap();
    assert_eq!(
        fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o600
    );
    UnixStream::connect(&socket).unwrap();
}

#[test]
fn only_their_owner_can_open_the_files() {
    let (_folder, files) = host_files();
    let (_socket, _listener) = files.lock().unwrap().listen().unwrap();
    let mode = |name: String| {
        (
            fs::metadata(files.folder.join(&name)).unwrap().mode() & 0o777,
            name,
        )
    };
    let modes: Vec<_> = names(&files).into_iter().map(mode).collect();
    assert_eq!(modes.len(), 3);
    assert!(modes.iter().all(|(mode, _)| *mode == 0o600), "{modes:?}");
}

#[test]
fn folder_that_others_can_write_to_is_refused() {
    for (owner, mode, own, expected) in [
        (0, 0o711, 0, Access::Own),
        (0, 0o755, 0, Access::Own),
        (1000, 0o700, 1000, Access::Own),
        (1000, 0o700, 0, Access::Others),
        (0, 0o775, 0, Access::Others),
        (0, 0o1777, 0, Access::Others),
    ] {
        assert_eq!(access(owner, mode, own), expected, "{owner} {mode:o} {own}");
    }
    let (_folder, files) = host_files();
    fs::create_dir(&files.folder).unwrap();
    fs::set_permissions(&files.folder, fs::Permissions::from_mode(0o1777)).unwrap();
    let error = files.lock().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(names(&files), Vec::<String>::new());
}

#[test]
fn new_host_removes_the_socket_of_a_dead_host_and_not_of_a_draining_one() {
    let (_folder, files) = host_files();
    let locked = files.lock().unwrap();
    let (dead, listener) = locked.listen().unwrap();
    drop(listener);
    let (draining, _listener) = locked.listen().unwrap();
    assert!(!dead.exists());
    locked.retire(&draining).unwrap();
    let (current, _listener) = locked.listen().unwrap();
    assert_ne!(draining, current);
    assert_eq!(liveness(&draining).unwrap(), Liveness::Listens);
}

#[test]
fn busy_host_is_alive() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let address = SocketAddrUnix::new(&socket).unwrap();
    let listener = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    rustix::net::bind(&listener, &address).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _waiting = UnixStream::connect(&socket).unwrap();
    for _ in 0..3 {
        assert_eq!(liveness(&socket).unwrap(), Liveness::Listens);
    }
}

#[test]
fn dying_host_is_dead_and_living_host_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let long = Duration::from_secs(10);
    // The watched connection was accepted, or is still in the backlog, when its host's last
    // descriptors are closed.
    for accepts in [true, false] {
        let socket = folder.path().join(format!("s{accepts}"));
        let listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(
            liveness_after(&socket, Duration::from_millis(1)).unwrap(),
            Liveness::Listens
        );
        let dying = std::thread::spawn(move || {
            // One connection is left from the first check, then the watched one.
            let taken: Vec<_> = (0..if accepts { 2 } else { 0 })
                .map(|_| listener.accept().unwrap())
                .collect();
            drop((listener, taken));
        });
        assert_eq!(liveness_after(&socket, long).unwrap(), Liveness::Dead);
        dying.join().unwrap();
    }
    assert_eq!(
        liveness_after(Path::new("/nowhere/s"), long).unwrap(),
        Liveness::Dead
    );
}

#[test]
fn missing_socket_is_dead_and_too_long_path_is_an_error() {
    assert_eq!(liveness(Path::new("/nowhere/s")).unwrap(), Liveness::Dead);
    let long = HostFiles::new(format!("/tmp/{}", "x".repeat(100)), key());
    let error = liveness(&long.file("-1")).unwrap_err();
    assert!(error.to_string().contains("xxx"), "{error}");
}

#[test]
fn host_stays_if_a_container_was_sent_to_it_meanwhile() {
    let (_folder, files) = host_files();
    let (socket, _listener) = files.lock().unwrap().listen().unwrap();
    let idle_since = files.touched().unwrap();
    // The file system's clock ticks every few milliseconds.
    while files.touched().unwrap() == idle_since {
        files.lock().unwrap().touch().unwrap();
    }
    assert_eq!(
        files
            .lock()
            .unwrap()
            .retire_unless_touched(&socket, idle_since)
            .unwrap(),
        Retired::No
    );
    assert_eq!(
        files.lock().unwrap().current().unwrap().as_ref(),
        Some(&socket)
    );
    let now = files.touched().unwrap();
    assert_eq!(
        files
            .lock()
            .unwrap()
            .retire_unless_touched(&socket, now)
            .unwrap(),
        Retired::Yes
    );
    assert_eq!(files.lock().unwrap().pointed_socket().unwrap(), None);
    assert!(socket.exists(), "clients may connect again");
}

#[test]
fn replaced_host_removes_nothing_of_its_successor() {
    let (_folder, files) = host_files();
    let (old, _old) = files.lock().unwrap().listen().unwrap();
    files.lock().unwrap().retire(&old).unwrap();
    let (new, _new) = files.lock().unwrap().listen().unwrap();
    assert_eq!(
        files
            .lock()
            .unwrap()
            .retire_unless_touched(&old, None)
            .unwrap(),
        Retired::Yes
    );
    files.lock().unwrap().remove(&old).unwrap();
    assert_eq!(files.lock().unwrap().current().unwrap(), Some(new));
    assert!(!old.exists());
}

#[test]
fn last_host_leaves_no_file() {
    let (_folder, files) = host_files();
    let (socket, _listener) = files.lock().unwrap().listen().unwrap();
    assert_eq!(names(&files).len(), 3);
    files.lock().unwrap().remove(&socket).unwrap();
    assert_eq!(names(&files), Vec::<String>::new());
}

#[test]
fn files_of_a_host_are_found_by_its_socket() {
    let (_folder, files) = host_files();
    let (socket, _listener) = files.lock().unwrap().listen().unwrap();
    assert_eq!(HostFiles::from_any_socket(&socket), Some(files.clone()));
    assert_eq!(HostFiles::from_socket(&socket, key()), files);
    for other in ["/run/containerd/s/0123", "/", "/run/containerd/s/x-1"] {
        assert_eq!(
            HostFiles::from_any_socket(Path::new(other)),
            None,
            "{other}"
        );
    }
}

#[test]
fn lock_is_exclusive_while_its_file_is_recreated() {
    let (_folder, files) = host_files();
    let inside = Mutex::new(());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let locked = files.lock().unwrap();
                    let alone = inside.try_lock().expect("the lock is exclusive");
                    let (socket, listener) = locked.listen().unwrap();
                    drop(listener);
                    drop(alone);
                    locked.remove(&socket).unwrap();
                }
            });
        }
    });
    assert_eq!(names(&files), Vec::<String>::new());
}

#[test]
fn concurrent_launchers_find_one_host() {
    let (_folder, files) = host_files();
    let hosts = Mutex::new(Vec::new());
    let found = Mutex::new(HashSet::new());
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let locked = files.lock().unwrap();
                let socket = locked.current().unwrap().unwrap_or_else(|| {
                    let (socket, listener) = locked.listen().unwrap();
                    hosts.lock().unwrap().push(listener);
                    socket
                });
                locked.touch().unwrap();
                found.lock().unwrap().insert(socket);
            });
        }
    });
    assert_eq!(
        (hosts.lock().unwrap().len(), found.lock().unwrap().len()),
        (1, 1)
    );
}
