//! Tests of `delete` with records, cgroups and mounts of their own. They need root; without it each
//! test is reported as ignored.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "it is a test without the compiler's harness"
)]

use std::fs;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::Message as _;
use shim_protocol::host::{Group, HostFiles, HostKey};
use shim_protocol::record::{Record, Records};

use libtest_mimic::{Arguments, Trial};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};

#[path = "launcher/killed.rs"]
mod killed;

use killed::{Fate, INPUT, kill_before};

const TESTS: &[(&str, fn())] = &[
    (
        "everything_of_a_dead_hosts_container_is_removed",
        everything_of_a_dead_hosts_container_is_removed,
    ),
    (
        "container_of_a_live_host_is_left_alone",
        container_of_a_live_host_is_left_alone,
    ),
    (
        "container_of_another_containerd_with_the_same_id_is_left_alone",
        container_of_another_containerd_with_the_same_id_is_left_alone,
    ),
    (
        "container_without_a_record_has_nothing_to_remove",
        container_without_a_record_has_nothing_to_remove,
    ),
    ("concurrent_deletes_succeed", concurrent_deletes_succeed),
    (
        "next_delete_finishes_after_one_was_killed_at_any_step",
        next_delete_finishes_after_one_was_killed_at_any_step,
    ),
];

fn main() -> ExitCode {
    let root = nix::unistd::geteuid().is_root();
    if root {
        mount_private_records();
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

/// Mounts a private folder in memory on the launcher's only folder for records, for these tests and
/// the processes that they start.
fn mount_private_records() {
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

/// A container whose host is dead, with everything that a container can leave behind.
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
    PathBuf::from(mounts.find(fits).expect("cgroups are mounted")[1])
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
        let key = HostKey::new("test", "/c.sock", folder.path(), test, &Group::Node);
        let (host, _) = HostFiles::new(folder.path().join("s"), key)
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
        Records::new("/c.sock").write(&record).unwrap();
        Self {
            folder,
            record,
            process,
        }
    }

    fn delete(&self) -> Command {
        self.delete_for("/c.sock")
    }

    /// Returns the command `delete` of the containerd at `address`.
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

    /// Returns what still exists of it.
    fn rest(&self) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mounted = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .map(PathBuf::from);
        let mut rest: Vec<PathBuf> = mounted
            .filter(|mount| mount.starts_with(self.folder.path()))
            .collect();
        let record = Records::new("/c.sock")
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
        // Cleans up after a failed test.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = self.delete().output();
    }
}

fn everything_of_a_dead_hosts_container_is_removed() {
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

fn container_of_a_live_host_is_left_alone() {
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

fn container_of_another_containerd_with_the_same_id_is_left_alone() {
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

fn container_without_a_record_has_nothing_to_remove() {
    let left = Left::by_dead_host("unrecorded");
    Records::new("/c.sock")
        .remove(&left.record.namespace, &left.record.id)
        .unwrap();
    let before = left.rest();
    assert!(left.delete().output().unwrap().status.success());
    assert_eq!(left.rest(), before);
    Records::new("/c.sock").write(&left.record).unwrap();
}

fn concurrent_deletes_succeed() {
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

fn next_delete_finishes_after_one_was_killed_at_any_step() {
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
