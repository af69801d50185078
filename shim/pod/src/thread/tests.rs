//! Tests with real threads in real namespaces. They need root: `cargo xtask test` runs them if it
//! is root.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard};

use rustix::mount::{UnmountFlags, mount_bind, unmount};

use super::*;

/// Tests that inspect the whole process run one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    failures::lock_ignoring_poison(&ALONE)
}

/// A new network namespace, bound to a file as containerd does it.
struct Netns {
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Netns {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("net");
        fs::write(&file, "").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
                mount_bind("/proc/thread-self/ns/net", &file).unwrap();
            });
        });
        Self {
            file,
            _folder: folder,
        }
    }

    fn pod(&self, name: &str, sysctls: &[(&str, &str)]) -> NewPod {
        let uts = Uts::Own {
            hostname: Some(name.to_owned()),
            domainname: Some("example.org".to_owned()),
        };
        let sysctls: BTreeMap<_, _> = sysctls
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        NewPod::new(
            name,
            Network::Join(self.file.clone()),
            Ipc::Own,
            uts,
            &sysctls,
        )
        .unwrap()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = unmount(&self.file, UnmountFlags::DETACH);
    }
}

/// Identifies a namespace of a thread of this process by `/proc`.
fn namespace(tid: u32, kind: &str) -> String {
    fs::read_link(format!("/proc/{tid}/ns/{kind}"))
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

/// Returns the output of a program that runs in the pod's namespaces.
fn inside(pod: &ParkedThread, program: &[&str]) -> String {
    let ns = |kind| format!("--{kind}=/proc/{}/ns/{kind}", pod.tid());
    let output = Command::new("nsenter")
        .args([ns("net"), ns("ipc"), ns("uts")])
        .args(program)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Counts the threads of this process that hold pods with this name prefix.
fn threads(name: &str) -> usize {
    let name = format!("pod-{name}");
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter(|task| {
            fs::read_to_string(task.as_ref().unwrap().path().join("comm"))
                .is_ok_and(|comm| comm.starts_with(&name))
        })
        .count()
}

/// Waits until no thread holds such a pod: a joined thread may be listed for a moment longer.
fn until_no_thread_of(name: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while threads(name) > 0 {
        assert!(
            Instant::now() < deadline,
            "{} threads of {name} are still there",
            threads(name)
        );
        std::thread::yield_now();
    }
}

/// Counts the descriptors of this process that are namespaces.
fn namespaces_open() -> usize {
    let descriptors = fs::read_dir("/proc/self/fd").unwrap();
    descriptors
        .filter(|fd| {
            fs::read_link(fd.as_ref().unwrap().path())
                .is_ok_and(|file| file.to_string_lossy().contains(":["))
        })
        .count()
}

#[test]
#[ignore = "needs root"]
fn pod_joins_its_network_and_has_its_own_ipc_and_names() {
    let _alone = alone();
    let network = Netns::new();
    let pod = hold(network.pod("web-0", &[])).unwrap();
    let own = std::process::id();
    for kind in ["net", "ipc", "uts"] {
        assert_ne!(namespace(pod.tid(), kind), namespace(own, kind), "{kind}");
    }
    for kind in ["pid", "mnt", "user", "cgroup"] {
        assert_eq!(namespace(pod.tid(), kind), namespace(own, kind), "{kind}");
    }
    let again = hold(network.pod("web-0", &[])).unwrap();
    assert_eq!(namespace(pod.tid(), "net"), namespace(again.tid(), "net"));
    assert_eq!(
        fs::read_to_string(format!("/proc/{}/comm", pod.tid())).unwrap(),
        "pod-web-0\n"
    );
    assert!(
        fs::read_to_string(format!("/proc/{}/net/dev", pod.tid()))
            .unwrap()
            .contains("lo:")
    );
    pod.release();
    again.release();
}

#[test]
#[ignore = "needs root"]
fn child_that_joins_sees_the_pods_names() {
    let _alone = alone();
    let network = Netns::new();
    let before = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let pod = hold(network.pod("web-1", &[])).unwrap();
    assert_eq!(
        inside(
            &pod,
            &[
                "cat",
                "/proc/sys/kernel/hostname",
                "/proc/sys/kernel/domainname"
            ]
        ),
        "web-1\nexample.org"
    );
    assert_eq!(
        fs::read_to_string("/proc/sys/kernel/hostname").unwrap(),
        before
    );
    pod.release();
}

#[test]
#[ignore = "needs root"]
fn sysctls_are_set_inside_and_not_outside() {
    let _alone = alone();
    let network = Netns::new();
    let files = [
        "net/ipv4/ip_unprivileged_port_start",
        "kernel/shm_rmid_forced",
        "fs/mqueue/msg_max",
    ]
    .map(|file| format!("/proc/sys/{file}"));
    let before = files.clone().map(|file| fs::read_to_string(file).unwrap());
    let pod = hold(network.pod(
        "s",
        &[
            ("net.ipv4.ip_unprivileged_port_start", "77"),
            ("kernel.shm_rmid_forced", "1"),
            ("fs.mqueue.msg_max", "12"),
        ],
    ))
    .unwrap();
    assert_eq!(
        inside(&pod, &["cat", &files[0], &files[1], &files[2]]),
        "77\n1\n12"
    );
    assert_eq!(files.map(|file| fs::read_to_string(file).unwrap()), before);
    pod.release();
}

#[test]
#[ignore = "needs root"]
fn pod_with_node_namespaces_has_those_of_the_node() {
    let _alone = alone();
    let new = |ipc| NewPod::new("host", Network::Node, ipc, Uts::Node, &BTreeMap::new()).unwrap();
    let (pod, all) = (hold(new(Ipc::Own)).unwrap(), hold(new(Ipc::Node)).unwrap());
    let own = std::process::id();
    for kind in ["net", "uts"] {
        assert_eq!(namespace(pod.tid(), kind), namespace(own, kind), "{kind}");
    }
    assert_ne!(namespace(pod.tid(), "ipc"), namespace(own, "ipc"));
    assert_eq!(namespace(all.tid(), "ipc"), namespace(own, "ipc"));
    pod.release();
    all.release();
}

#[test]
#[ignore = "needs root"]
fn pod_without_a_network_gets_an_empty_one() {
    let _alone = alone();
    let new = NewPod::new("empty", Network::Own, Ipc::Own, Uts::Node, &BTreeMap::new()).unwrap();
    let pod = hold(new).unwrap();
    assert_ne!(
        namespace(pod.tid(), "net"),
        namespace(std::process::id(), "net")
    );
    pod.release();
}

#[test]
#[ignore = "needs root"]
fn failed_step_is_named_and_leaves_no_thread() {
    let _alone = alone();
    let network = Netns::new();
    let gone = NewPod::new(
        "fail",
        Network::Join("/run/netns/gone".into()),
        Ipc::Own,
        Uts::Node,
        &BTreeMap::new(),
    )
    .unwrap();
    let text = failures::chain(&hold(gone).unwrap_err());
    assert!(
        text.contains("join the pod's network namespace /run/netns/gone: No such file"),
        "{text}"
    );

    let file = tempfile::NamedTempFile::new().unwrap();
    let no_namespace = NewPod::new(
        "fail",
        Network::Join(file.path().to_owned()),
        Ipc::Own,
        Uts::Node,
        &BTreeMap::new(),
    )
    .unwrap();
    let text = failures::chain(&hold(no_namespace).unwrap_err());
    assert!(
        text.contains(file.path().to_str().unwrap())
            && text.contains("EINVAL") | text.contains("Invalid argument"),
        "{text}"
    );

    let text = failures::chain(
        &hold(network.pod("fail", &[("net.ipv4.no_such_thing", "1")])).unwrap_err(),
    );
    assert!(
        text.contains("set the pod's sysctl net.ipv4.no_such_thing to \"1\": No such file"),
        "{text}"
    );
    let text = failures::chain(
        &hold(network.pod("fail", &[("net.ipv4.ip_forward", "perhaps")])).unwrap_err(),
    );
    assert!(
        text.contains("ip_forward to \"perhaps\": Invalid argument"),
        "{text}"
    );

    let text = failures::chain(&hold(network.pod(&"fail".repeat(20), &[])).unwrap_err());
    assert!(
        text.contains("set the pod's hostname to \"failfail"),
        "{text}"
    );
    until_no_thread_of("fail");
}

#[test]
fn panic_in_the_thread_is_an_error_of_hold() {
    let error = park_after("pod-panic".to_owned(), || panic!("of the {}", "test")).unwrap_err();
    assert!(
        error.to_string().ends_with("panicked: of the test"),
        "{error}"
    );
    until_no_thread_of("panic");
}

#[test]
#[ignore = "needs root"]
fn dropped_pod_ends_its_thread() {
    let _alone = alone();
    let network = Netns::new();
    let pod = hold(network.pod("dropped", &[])).unwrap();
    assert_eq!(threads("dropped"), 1);
    drop(pod);
    until_no_thread_of("dropped");
}

#[test]
#[ignore = "needs root"]
fn pods_can_be_held_concurrently() {
    let _alone = alone();
    let network = Netns::new();
    std::thread::scope(|scope| {
        for name in ["two-a", "two-b"] {
            let network = &network;
            scope.spawn(move || {
                for _ in 0..20 {
                    let pod = hold(network.pod(name, &[])).unwrap();
                    assert_eq!(inside(&pod, &["cat", "/proc/sys/kernel/hostname"]), name);
                    pod.release();
                }
            });
        }
    });
    assert_eq!(threads("two-"), 0);
}

#[test]
#[ignore = "needs root"]
fn two_hundred_pods_leave_no_thread_and_no_descriptor() {
    let _alone = alone();
    let network = Netns::new();
    hold(network.pod("many", &[])).unwrap().release();
    let before = namespaces_open();
    let pods: Vec<_> = (0..200)
        .map(|_| hold(network.pod("many", &[])).unwrap())
        .collect();
    assert_eq!((threads("many"), namespaces_open()), (200, before));
    pods.into_iter().for_each(ParkedThread::release);
    assert_eq!((threads("many"), namespaces_open()), (0, before));
}
