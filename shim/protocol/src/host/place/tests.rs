//! The files of a key, used by threads in place of launchers and hosts: each opens the lock anew,
//! as a process would.

use std::collections::HashSet;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::thread;

use super::*;
use crate::host::Group;

fn key() -> HostKey {
    HostKey::of(
        "k8s.io",
        "/run/containerd/containerd.sock",
        Path::new("/opt/runtime"),
        "1",
        &Group::Node,
    )
}

fn place() -> (tempfile::TempDir, Place) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path().join("s"), key());
    (folder, place)
}

fn files(place: &Place) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(&place.folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_pointer_leads_to_who_listens_and_to_nobody_else() {
    let (_folder, place) = place();
    let locked = place.lock().unwrap();
    assert_eq!(locked.current().unwrap(), None);
    let (socket, listener) = locked.listen().unwrap();
    assert_eq!(locked.current().unwrap().as_ref(), Some(&socket));
    drop(listener);
    assert_eq!(locked.current().unwrap(), None);
    assert_eq!(locked.pointed().unwrap(), Some(socket));
}

#[test]
fn a_socket_is_open_to_its_owner_alone() {
    let (_folder, place) = place();
    let (socket, _listener) = place.lock().unwrap().listen().unwrap();
    assert_eq!(
        fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o600
    );
    UnixStream::connect(&socket).unwrap();
}

#[test]
fn files_of_a_place_are_open_to_their_owner_alone() {
    let (_folder, place) = place();
    let (_socket, _listener) = place.lock().unwrap().listen().unwrap();
    let mode = |name: String| {
        (
            fs::metadata(place.folder.join(&name)).unwrap().mode() & 0o777,
            name,
        )
    };
    let modes: Vec<_> = files(&place).into_iter().map(mode).collect();
    assert_eq!(modes.len(), 3);
    assert!(modes.iter().all(|(mode, _)| *mode == 0o600), "{modes:?}");
}

#[test]
fn folder_into_which_others_can_put_files_is_refused() {
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
    let (_folder, place) = place();
    fs::create_dir(&place.folder).unwrap();
    fs::set_permissions(&place.folder, fs::Permissions::from_mode(0o1777)).unwrap();
    let error = place.lock().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(files(&place), Vec::<String>::new());
}

#[test]
fn a_dead_hosts_socket_goes_when_the_next_host_comes_and_a_draining_ones_stays() {
    let (_folder, place) = place();
    let locked = place.lock().unwrap();
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
fn a_host_that_is_busy_listens() {
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
fn a_host_that_is_seen_to_die_is_dead_and_one_that_lives_on_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let long = Duration::from_secs(10);
    // The connection that is watched was accepted, or waits still, when its host's last descriptors
    // are closed.
    for accepts in [true, false] {
        let socket = folder.path().join(format!("s{accepts}"));
        let listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(
            liveness_after(&socket, Duration::from_millis(1)).unwrap(),
            Liveness::Listens
        );
        let dying = std::thread::spawn(move || {
            // What the first question left, then the one that is watched.
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
fn what_was_never_there_is_dead_and_what_is_too_long_is_said() {
    assert_eq!(liveness(Path::new("/nowhere/s")).unwrap(), Liveness::Dead);
    let long = Place::new(format!("/tmp/{}", "x".repeat(100)), key());
    let error = liveness(&long.file("-1")).unwrap_err();
    assert!(error.to_string().contains("xxx"), "{error}");
}

#[test]
fn a_host_to_which_a_container_was_sent_meanwhile_stays() {
    let (_folder, place) = place();
    let (socket, _listener) = place.lock().unwrap().listen().unwrap();
    let idle_since = place.touched().unwrap();
    // The file system's clock ticks every few milliseconds.
    while place.touched().unwrap() == idle_since {
        place.lock().unwrap().touch().unwrap();
    }
    assert_eq!(
        place
            .lock()
            .unwrap()
            .retire_unless_touched(&socket, idle_since)
            .unwrap(),
        Retired::No
    );
    assert_eq!(
        place.lock().unwrap().current().unwrap().as_ref(),
        Some(&socket)
    );
    let now = place.touched().unwrap();
    assert_eq!(
        place
            .lock()
            .unwrap()
            .retire_unless_touched(&socket, now)
            .unwrap(),
        Retired::Yes
    );
    assert_eq!(place.lock().unwrap().pointed().unwrap(), None);
    assert!(socket.exists(), "who is connected may connect again");
}

#[test]
fn a_host_that_was_replaced_takes_nothing_of_its_successor() {
    let (_folder, place) = place();
    let (old, _old) = place.lock().unwrap().listen().unwrap();
    place.lock().unwrap().retire(&old).unwrap();
    let (new, _new) = place.lock().unwrap().listen().unwrap();
    assert_eq!(
        place
            .lock()
            .unwrap()
            .retire_unless_touched(&old, None)
            .unwrap(),
        Retired::Yes
    );
    place.lock().unwrap().remove(&old).unwrap();
    assert_eq!(place.lock().unwrap().current().unwrap(), Some(new));
    assert!(!old.exists());
}

#[test]
fn the_last_host_leaves_no_file() {
    let (_folder, place) = place();
    let (socket, _listener) = place.lock().unwrap().listen().unwrap();
    assert_eq!(files(&place).len(), 3);
    place.lock().unwrap().remove(&socket).unwrap();
    assert_eq!(files(&place), Vec::<String>::new());
}

#[test]
fn the_place_of_a_host_is_known_by_its_socket() {
    let (_folder, place) = place();
    let (socket, _listener) = place.lock().unwrap().listen().unwrap();
    assert_eq!(Place::of_any_socket(&socket), Some(place.clone()));
    assert_eq!(Place::of_socket(&socket, key()), place);
    for other in ["/run/containerd/s/0123", "/", "/run/containerd/s/x-1"] {
        assert_eq!(Place::of_any_socket(Path::new(other)), None, "{other}");
    }
}

#[test]
fn one_at_a_time_has_the_lock_while_its_file_comes_and_goes() {
    let (_folder, place) = place();
    let inside = Mutex::new(());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let locked = place.lock().unwrap();
                    let alone = inside.try_lock().expect("the lock lets one in");
                    let (socket, listener) = locked.listen().unwrap();
                    drop(listener);
                    drop(alone);
                    locked.remove(&socket).unwrap();
                }
            });
        }
    });
    assert_eq!(files(&place), Vec::<String>::new());
}

#[test]
fn many_at_once_find_one_host() {
    let (_folder, place) = place();
    let hosts = Mutex::new(Vec::new());
    let found = Mutex::new(HashSet::new());
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let locked = place.lock().unwrap();
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
