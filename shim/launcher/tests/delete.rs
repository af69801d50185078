//! `delete`, with records, cgroups and mounts of the tests' own. Needs root; without, each test is
//! reported as ignored.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "it is a test, and no harness of the compiler's says so"
)]

use std::fs;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::Message as _;
use shim_protocol::host::{Group, HostKey, Place};
use shim_protocol::record::{Record, Records};

use libtest_mimic::{Arguments, Trial};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};

#[path = "launcher/killed.rs"]
mod killed;

use killed::{Fate, INPUT, kill_before};

const TESTS: &[(&str, fn())] = &[
    (
        "everything_that_a_dead_host_left_is_removed",
        everything_that_a_dead_host_left_is_removed,
    ),
    (
        "what_a_host_serves_is_left_alone",
        what_a_host_serves_is_left_alone,
    ),
    (
        "what_another_containerd_has_under_the_same_name_is_left_alone",
        what_another_containerd_has_under_the_same_name_is_left_alone,
    ),
    (
        "a_container_without_a_record_has_nothing_to_remove",
        a_container_without_a_record_has_nothing_to_remove,
    ),
    ("two_at_once_both_succeed", two_at_once_both_succeed),
    (
        "one_killed_at_any_step_leaves_the_rest_to_the_next",
        one_killed_at_any_step_leaves_the_rest_to_the_next,
    ),
];

fn main() -> ExitCode {
    let root = nix::unistd::geteuid().is_root();
    if root {
        have_records_of_our_own();
    }
    let trials = TESTS.iter().map(|&(name, test)| {
        let name = if root {
            name.to_owned()
        } else {
            format!("{name} (skipped: needs root)")
        };
        Trial::test(name, move || {
            test();
            Ok(())
        })
        .with_ignored_flag(!root)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// The launcher knows one place for records: here it is in memory, and seen by these tests and what
/// they start alone.
fn have_records_of_our_own() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let nothing = None::<&str>;
    nix::mount::mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )
    .unwrap();
    nix::mount::mount(
        Some("none"),
        "/run",
        Some("tmpfs"),
        MsFlags::empty(),
        nothing,
    )
    .unwrap();
}

/// A container whose host is gone, with everything that a container can leave.
struct Left {
    folder: tempfile::TempDir,
    record: Record,
    process: Child,
}

fn hierarchy() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mut mounts = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let fits = |mount: &Vec<&str>| {
        mount[2] == "cgroup2"
            || (mount[2] == "cgroup" && mount[3].split(',').any(|option| option == "pids"))
    };
    PathBuf::from(mounts.find(fits).expect("the machine has cgroups")[1])
}

fn mount(args: &[&str], at: &Path) {
    assert!(
        Command::new("mount")
            .args(args)
            .arg(at)
            .status()
            .unwrap()
            .success(),
        "these tests need root"
    );
}

impl Left {
    fn by_dead_host(test: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["bundle/rootfs", "mounted", "native/state"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let cgroup = hierarchy().join(format!("launcher-delete-{}-{test}", std::process::id()));
        fs::create_dir(&cgroup).unwrap();
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(cgroup.join("cgroup.procs"), process.id().to_string()).unwrap();
        mount(&["-t", "tmpfs", "none"], &folder.path().join("mounted"));
        for _ in 0..2 {
            mount(
                &["-t", "tmpfs", "none"],
                &folder.path().join("bundle/rootfs"),
            );
        }
        let key = HostKey::of("test", "/c.sock", folder.path(), test, &Group::Node);
        let (host, _) = Place::new(folder.path().join("s"), key)
            .lock()
            .unwrap()
            .listen()
            .unwrap();
        let record = Record {
            namespace: format!("launcher-test-{}", std::process::id()),
            id: test.to_owned(),
            host,
            cgroups: vec![cgroup, PathBuf::from("/sys/fs/cgroup/none/such")],
            mounts: vec![
                folder.path().join("mounted"),
                folder.path().join("never-mounted"),
            ],
            native: Some(folder.path().join("native/state")),
        };
        Records::of("/c.sock").write(&record).unwrap();
        Self {
            folder,
            record,
            process,
        }
    }

    fn delete(&self) -> Command {
        self.delete_for("/c.sock")
    }

    /// `delete`, asked for by the containerd at `address`.
    fn delete_for(&self, address: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_containerd-shim-wasmedge-v1"));
        let bundle = self.folder.path().join("bundle");
        command.args([
            "-namespace",
            &self.record.namespace,
            "-address",
            address,
            "-id",
            &self.record.id,
            "-bundle",
        ]);
        command
            .arg(bundle)
            .arg("delete")
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What is still there of it.
    fn rest(&self) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mounted = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .map(PathBuf::from);
        let mut rest: Vec<PathBuf> = mounted
            .filter(|mount| mount.starts_with(self.folder.path()))
            .collect();
        let record = Records::of("/c.sock")
            .folder(&self.record.namespace, &self.record.id)
            .unwrap();
        let files = [record, self.record.native.clone().unwrap()]
            .into_iter()
            .chain(self.record.cgroups.clone());
        rest.extend(files.filter(|file| file.exists()));
        rest.extend(
            fs::read_dir(self.folder.path().join("s"))
                .unwrap()
                .map(|entry| entry.unwrap().path()),
        );
        rest
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        // Of a test that failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = self.delete().output();
    }
}

fn everything_that_a_dead_host_left_is_removed() {
    let mut left = Left::by_dead_host("all");
    let output = left.delete().output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        DeleteResponse::parse_from_bytes(&output.stdout)
            .unwrap()
            .exit_status,
        137
    );
    assert_eq!(left.rest(), Vec::<PathBuf>::new());
    assert_eq!(left.process.wait().unwrap().signal(), Some(9));
}

fn what_a_host_serves_is_left_alone() {
    let mut left = Left::by_dead_host("served");
    fs::remove_file(&left.record.host).unwrap();
    let listener = UnixListener::bind(&left.record.host).unwrap();
    let before = left.rest();
    let output = left.delete().output().unwrap();
    assert_eq!(
        DeleteResponse::parse_from_bytes(&output.stdout)
            .unwrap()
            .exit_status,
        137
    );
    assert_eq!(left.rest(), before);
    assert_eq!(left.process.try_wait().unwrap(), None);
    drop(listener);
}

fn what_another_containerd_has_under_the_same_name_is_left_alone() {
    let mut left = Left::by_dead_host("foreign");
    let before = left.rest();
    assert!(
        left.delete_for("/d.sock")
            .output()
            .unwrap()
            .status
            .success()
    );
    assert_eq!(left.rest(), before);
    assert_eq!(left.process.try_wait().unwrap(), None);
}

fn a_container_without_a_record_has_nothing_to_remove() {
    let left = Left::by_dead_host("unrecorded");
    Records::of("/c.sock")
        .remove(&left.record.namespace, &left.record.id)
        .unwrap();
    let before = left.rest();
    assert!(left.delete().output().unwrap().status.success());
    assert_eq!(left.rest(), before);
    Records::of("/c.sock").write(&left.record).unwrap();
}

fn two_at_once_both_succeed() {
    for round in 0..10 {
        let left = Left::by_dead_host(&format!("twice-{round}"));
        for child in [(); 2].map(|()| left.delete().spawn().unwrap()) {
            let output = child.wait_with_output().unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        assert_eq!(left.rest(), Vec::<PathBuf>::new());
    }
}

fn one_killed_at_any_step_leaves_the_rest_to_the_next() {
    let mut call = 0;
    loop {
        let left = Left::by_dead_host(&format!("killed-{call}"));
        let fate = kill_before(call, left.delete().env(INPUT, "/dev/null"));
        assert!(left.delete().output().unwrap().status.success());
        assert_eq!(
            left.rest(),
            Vec::<PathBuf>::new(),
            "killed before its system call {call}"
        );
        if fate == Fate::Ended {
            break;
        }
        call += 1;
    }
    assert!(
        call > 50,
        "it made {call} system calls only, so it was not followed"
    );
}
