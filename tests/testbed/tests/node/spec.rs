//! Fields of an OCI spec on a running guest: its process in the kernel, and its own view. Unit
//! tests beside the code check the plan that is made of each field; these tests check its effect.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testbed::containerd::{Container, Task};

use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, expect, expect_refusal, read, tests};
use crate::tasks::Mount;

tests![
    rlimits_of_a_guest_are_the_specs,
    oom_score_adjustment_of_a_guest_is_the_specs,
    a_guest_has_the_specs_user_groups_and_umask,
    masked_paths_are_empty_and_read_only_ones_are_not_written,
    device_of_the_spec_has_its_mode_and_owner,
    seccomp_filter_of_the_spec_applies_beside_the_runtimes,
    hooks_are_refused_by_name_and_leave_nothing,
    volume_shows_later_mounts_of_the_node_if_the_spec_propagates_them,
    read_only_volume_covers_mounts_below_it_if_the_spec_is_recursive,
    tmpfs_has_the_specs_size_and_mode,
    private_namespaces_have_the_specs_host_name_and_sysctls,
    mount_follows_links_and_stays_in_the_root,
    link_loop_at_a_mount_point_is_refused_by_name,
    root_is_assembled_from_several_mounts,
];

/// A container of the probe, by a spec that a test changes. Its root is a folder of the machine,
/// which the test inspects.
pub(crate) struct Fixture<'a> {
    node: &'a Node,
    id: String,
    root: PathBuf,
    pub(crate) spec: Value,
}

impl<'a> Fixture<'a> {
    pub(crate) fn new(node: &'a Node) -> Result<Self> {
        let (id, root) = (node.id("spec"), node.folder()?);
        fs::write(root.join("app.wasm"), read(&node.prepared.guests.probe)?)
            .context("write the guest")?;
        fs::create_dir(root.join("data")).context("make a folder")?;
        let namespaces =
            ["pid", "ipc", "uts", "mount", "network"].map(|kind| json!({ "type": kind }));
        let spec = json!({
            "ociVersion": "1.1.0",
            "process": { "args": ["/app.wasm"], "env": [], "cwd": "/", "user": { "uid": 0,
            "gid": 0 }, "noNewPrivileges": true },
            "root": { "path": root },
            "mounts": [],
            "linux": { "cgroupsPath": format!("/{}/{id}", node.containerd.namespace()),
            "namespaces": namespaces },
        });
        Ok(Self {
            node,
            id,
            root,
            spec,
        })
    }

    /// Describes the container with `args`.
    pub(crate) fn container(&self, args: &[&str]) -> Result<Container> {
        let args: Vec<&str> = std::iter::once("/app.wasm")
            .chain(args.iter().copied())
            .collect();
        let mut spec = self.spec.clone();
        spec["process"]["args"] = json!(args);
        let file = self.node.folder()?.join("config.json");
        fs::write(&file, spec.to_string()).with_context(|| format!("write {}", file.display()))?;
        Ok(self.node.containerd.container("none", &self.id).spec(&file))
    }

    fn run(&self, args: &[&str]) -> Result<testbed::containerd::Finished> {
        self.container(args)?.run()
    }

    /// Starts one that keeps running.
    fn start(&self) -> Result<Task> {
        self.container(&["sleep", "600"])?.start()
    }

    fn mount(&mut self, source: &Path, destination: &str, options: &[&str]) {
        let mount = json!({ "type": "bind", "source": source, "destination": destination,
            "options": options });
        self.spec["mounts"]
            .as_array_mut()
            .expect("it is a list")
            .push(mount);
    }

    /// Returns the line of a running guest's mount at `place`.
    fn mount_at(&self, pid: i32, place: &str) -> Result<String> {
        let all = self.node.machine().read(pid, "mountinfo")?;
        let line = all
            .lines()
            .find(|line| line.split(' ').nth(4) == Some(place));
        line.map(str::to_owned)
            .with_context(|| format!("no mount at {place}:\n{all}"))
    }
}

fn expect_line(text: &str, line: &str) -> Result<()> {
    // The kernel decides the width of columns.
    let args = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(
        text.lines().any(|found| args(found) == line),
        "no line {line:?} in:\n{text}"
    );
    Ok(())
}

fn rlimits_of_a_guest_are_the_specs(node: &Node) -> Result<Verdict> {
    let mut fixture = Fixture::new(node)?;
    let limit =
        |kind: &str, soft: u64, hard: u64| json!({ "type": kind, "soft": soft, "hard": hard });
    fixture.spec["process"]["rlimits"] = json!([
        limit("RLIMIT_NOFILE", 100, 200),
        limit("RLIMIT_CORE", 0, 0),
        limit("RLIMIT_NPROC", 50, 60)
    ]);
    let task = fixture.start()?;
    let limits = node.machine().read(task.pid()?, "limits")?;
    expect_line(&limits, "Max open files 100 200 files")?;
    expect_line(&limits, "Max core file size 0 0 bytes")?;
    expect_line(&limits, "Max processes 50 60 processes")?;
    node.kill_and_delete(task)?;
    Ok(Verdict::Holds)
}

fn oom_score_adjustment_of_a_guest_is_the_specs(node: &Node) -> Result<Verdict> {
    let mut fixture = Fixture::new(node)?;
    fixture.spec["process"]["oomScoreAdj"] = json!(777);
    let task = fixture.start()?;
    let score = node.machine().read(task.pid()?, "oom_score_adj")?;
    ensure!(score.trim() == "777", "it is {score:?}");
    node.kill_and_delete(task)?;
    Ok(Verdict::Holds)
}

fn a_guest_has_the_specs_user_groups_and_umask(node: &Node) -> Result<Verdict> {
    let mut fixture = Fixture::new(node)?;
    fs::set_permissions(fixture.root.join("data"), fs::Permissions::from_mode(0o777))
        .context("open the folder to all")?;
    fixture.spec["process"]["user"] =
        json!({ "uid": 1234, "gid": 5678, "additionalGids": [90, 91], "umask": 0o077 });
    let task = fixture.start()?;
    let status = node.machine().read(task.pid()?, "status")?;
    for line in [
        "Uid: 1234 1234 1234 1234",
        "Gid: 5678 5678 5678 5678",
        "Groups: 90 91",
        "Umask: 0077",
    ] {
        expect_line(&status, line)?;
    }
    node.kill_and_delete(task)?;
    expect(&fixture.run(&["write", "/data/file", "text"])?, 0, "")?;
    let file =
        fs::metadata(fixture.root.join("data/file")).context("look at what the guest wrote")?;
    let found = (file.uid(), file.gid(), file.mode() & 0o077);
    ensure!(
        found == (1234, 5678, 0),
        "owner, group and others' rights of the guest's file are {found:?}"
    );
    Ok(Verdict::Holds)
}

fn masked_paths_are_empty_and_read_only_ones_are_not_written(node: &Node) -> Result<Verdict> {
    let mut fixture = Fixture::new(node)?;
    for folder in ["secret", "settings/inner"] {
        fs::create_dir_all(fixture.root.join(folder)).context("make a folder")?;
    }
    for file in ["secret/key", "token", "settings/inner/file"] {
        fs::write(fixture.root.join(file), "of the image").context("write a file")?;
    }
    fixture.spec["linux"]["maskedPaths"] = json!(["/secret", "/token", "/not/there"]);
    fixture.spec["linux"]["readonlyPaths"] = json!(["/settings", "/not/there"]);
    expect(&fixture.run(&["ls", "/secret"])?, 0, "")?;
    expect(&fixture.run(&["read", "/token"])?, 0, "")?;
    expect(
        &fixture.run(&["read", "/settings/inner/file"])?,
        0,
        "of the image",
    )?;
    for path in ["/settings/inner/file", "/settings/new", "/secret/new"] {
        let finished = fixture.run(&["write", path, "by the guest"])?;
        ensure!(
            finished.code == 1,
            "{path} was written: {} {}",
            finished.code,
            finished.stderr
        );
    }
    expect(&fixture.run(&["write", "/data/file", "x"])?, 0, "")?;
    let left =
        fs::read_to_string(fixture.root.join("settings/inner/file")).context("look at the file")?;
    ensure!(
        left == "of the image" && !fixture.root.join("settings/new").exists(),
        "{left:?}"
    );
    Ok(Verdict::Holds)
}

fn device_of_the_spec_has_its_mode_and_owner(node: &Node) -> Result<Verdict> {
    let mut fixture = Fixture::new(node)?;
    let device = |path: &str, minor: u32| {
        json!({ "path": path, "type": "c", "major": 1,
        "minor": minor, "fileMode": 0o640, "uid": 7, "gid": 8 })
    };
    fixture.spec["linux"]["devices"] = json!([device("/dev/own/zeros", 5), { "path": "/dev/line",
        "type": "p", "fileMode": 0o600 }]);
    let task = fixture.start()?;
    let dev = |name: &str| {
        fs::symlink_metadata(node.machine().of(task.pid()?, &format!("root/dev/{name}")))
            .context("look at a device")
    };
    let zeros = dev("own/zeros")?;
    let found = (
        zeros.file_type().is_char_device(),
        zeros.rdev(),
        zeros.mode() & 0o7777,
        zeros.uid(),
        zeros.gid(),
    );
    ensure!(
        found == (true, (1 << 8) | 5, 0o640, 7, 8),
        "kind, number, mode, owner and group are {found:?}"
    );
    ensure!(
        dev("line")?.file_type().is_fifo() && dev("null")?.file_type().is_char_device(),
        "there are others in /dev"
    );
    node.kill_and_delete(task)?;
    let seen = fixture.run(&["stat", "/dev/own/zeros"])?;
    ensure!(
        seen.code == 0 && seen.text().starts_with("character device"),
        "the guest sees {:?} {}",
        seen.text(),
        seen.stderr
    );
    Ok(Verdict::Holds)
}

fn seccomp_filter_of_the_spec_applies_beside_the_runtimes(node: &Node) -> Result<Verdict> {
    let mut fixture = Fixture::new(node)?;
    expect(&fixture.run(&["ls", "/data"])?, 0, "")?;
    let filters = |task: &Task| {
        Ok::<_, anyhow::Error>(node.machine().status(task.pid()?, "Seccomp_filters").ok())
    };
    let task = fixture.start()?;
    let ours = filters(&task)?;
    node.kill_and_delete(task)?;
    fixture.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["getdents64"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }],
    });
    let finished = fixture.run(&["ls", "/"])?;
    ensure!(
        !finished.text().contains("app.wasm"),
        "folders were listed: {}",
        finished.text()
    );
    // System calls that the filter allows still work.
    expect(&fixture.run(&["write", "/data/file", "x"])?, 0, "")?;
    let task = fixture.start()?;
    let both = filters(&task)?;
    ensure!(
        both.zip(ours).is_none_or(|(both, ours)| both == ours + 1),
        "{ours:?} filters became {both:?}"
    );
    node.kill_and_delete(task)?;
    Ok(Verdict::Holds)
}

fn hooks_are_refused_by_name_and_leave_nothing(node: &Node) -> Result<Verdict> {
    for kind in [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ] {
        let mut fixture = Fixture::new(node)?;
        let trace = fixture.root.join("ran");
        fixture.spec["hooks"] =
            json!({ kind: [{ "path": "/bin/touch", "args": ["touch", trace] }] });
        expect_refusal(&fixture.run(&["args"])?, &[&format!("hooks.{kind}")])?;
        ensure!(!trace.exists(), "the hook ran");
        node.machine().nothing_left(&fixture.id)?;
    }
    Ok(Verdict::Holds)
}

/// Makes a folder of the machine with shared mount propagation.
fn shared_folder(node: &Node) -> Result<PathBuf> {
    let folder = node.folder()?;
    node.isolated.mount_memory(&folder)?;
    node.isolated
        .run("mount")
        .arg("--make-shared")
        .arg(&folder)
        .done()?;
    Ok(folder)
}

fn volume_shows_later_mounts_of_the_node_if_the_spec_propagates_them(
    node: &Node,
) -> Result<Verdict> {
    for (propagation, mark, sees) in [
        ("rprivate", "", false),
        ("rslave", "master:", true),
        ("rshared", "shared:", true),
        ("", "", false),
    ] {
        let volume = shared_folder(node)?;
        let mut fixture = Fixture::new(node)?;
        let options: Vec<&str> = ["rbind", propagation]
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect();
        fixture.mount(&volume, "/data", &options);
        let task = fixture.start()?;
        let pid = task.pid()?;
        let line = fixture.mount_at(pid, "/data")?;
        let marks: Vec<&str> = line
            .split(' ')
            .skip(6)
            .take_while(|word| *word != "-")
            .collect();
        let fits = if mark.is_empty() {
            marks.is_empty()
        } else {
            marks.iter().any(|found| found.starts_with(mark))
        };
        ensure!(fits, "{propagation:?} gave {line}");
        let late = volume.join("late");
        node.isolated.run("mkdir").arg(&late).done()?;
        node.isolated.mount_memory(&late)?;
        node.isolated.run("touch").arg(late.join("file")).done()?;
        let seen = node.machine().of(pid, "root/data/late/file").exists();
        ensure!(
            seen == sees,
            "{propagation:?}: whether the later mount is seen is {seen}"
        );
        node.kill_and_delete(task)?;
        // Nothing of the guest keeps the mount.
        node.isolated
            .run("umount")
            .args(["-R"])
            .arg(&volume)
            .done()?;
    }
    Ok(Verdict::Holds)
}

fn read_only_volume_covers_mounts_below_it_if_the_spec_is_recursive(
    node: &Node,
) -> Result<Verdict> {
    for (option, below) in [("ro", 0), ("rro", 1)] {
        let volume = node.folder()?;
        node.isolated.mount_memory(&volume)?;
        node.isolated
            .run("mkdir")
            .arg(volume.join("below"))
            .done()?;
        node.isolated.mount_memory(&volume.join("below"))?;
        let mut fixture = Fixture::new(node)?;
        fixture.mount(&volume, "/data", &["rbind", option]);
        let code = |path: &str| Ok::<_, anyhow::Error>(fixture.run(&["write", path, "x"])?.code);
        ensure!(code("/data/file")? == 1, "{option}: the volume was written");
        let found = code("/data/below/file")?;
        ensure!(
            found == below,
            "{option}: writing what is mounted below it gave {found}"
        );
        node.isolated
            .run("umount")
            .args(["-R"])
            .arg(&volume)
            .done()?;
    }
    Ok(Verdict::Holds)
}

fn tmpfs_has_the_specs_size_and_mode(node: &Node) -> Result<Verdict> {
    let mut fixture = Fixture::new(node)?;
    let mount = json!({ "type": "tmpfs", "source": "tmpfs", "destination": "/made/scratch",
        "options": ["noexec", "size=64k", "mode=1750"] });
    fixture.spec["mounts"] = json!([mount]);
    let task = fixture.start()?;
    let pid = task.pid()?;
    let line = fixture.mount_at(pid, "/made/scratch")?;
    for word in ["noexec", "size=64k", "mode=1750"] {
        ensure!(line.contains(word), "no {word}: {line}");
    }
    let mode = fs::metadata(node.machine().of(pid, "root/made/scratch"))
        .context("look at it")?
        .mode()
        & 0o7777;
    ensure!(mode == 0o1750, "its mode is {mode:o}");
    node.kill_and_delete(task)?;
    expect(&fixture.run(&["write", "/made/scratch/file", "x"])?, 0, "")?;
    ensure!(
        !fixture.root.join("made/scratch/file").exists(),
        "it was written to the root"
    );
    Ok(Verdict::Holds)
}

fn private_namespaces_have_the_specs_host_name_and_sysctls(node: &Node) -> Result<Verdict> {
    let mut fixture = Fixture::new(node)?;
    fixture.spec["hostname"] = json!("guest-1");
    fixture.spec["domainname"] = json!("example.org");
    fixture.spec["linux"]["sysctl"] =
        json!({ "net.ipv4.ip_unprivileged_port_start": "77", "kernel.msgmax": "9999" });
    let task = fixture.start()?;
    let pid = task.pid()?;
    let inside = |file: &str| {
        let namespaces =
            ["uts", "net", "ipc"].map(|kind| format!("--{kind}=/proc/{pid}/ns/{kind}"));
        node.isolated
            .run("nsenter")
            .args(namespaces)
            .args(["cat", &format!("/proc/sys/{file}")])
            .text()
    };
    for (file, expected) in [
        ("kernel/hostname", "guest-1"),
        ("kernel/domainname", "example.org"),
        ("net/ipv4/ip_unprivileged_port_start", "77"),
        ("kernel/msgmax", "9999"),
    ] {
        let found = inside(file)?;
        ensure!(found.trim() == expected, "{file} is {found:?}");
    }
    node.kill_and_delete(task)?;
    Ok(Verdict::Holds)
}

fn mount_follows_links_and_stays_in_the_root(node: &Node) -> Result<Verdict> {
    let (outside, volume) = (node.folder()?, node.folder()?);
    fs::write(outside.join("file"), "of the machine").context("write a file")?;
    fs::write(volume.join("file"), "of the volume").context("write a file")?;
    fs::create_dir(volume.join("folder")).context("make a folder")?;
    let up = PathBuf::from("../".repeat(20))
        .join(outside.strip_prefix("/").context("an absolute folder")?);
    // Each case: a link in the image, the mount point, and the resulting place in the root.
    let cases = [
        ("near", "data".into(), "/near/inner", "data/inner"),
        ("far", outside.clone(), "/far/inner", "far-away"),
        ("up", up, "/up/inner", "far-away"),
        // As with /etc/resolv.conf in images: the link's target is missing.
        (
            "dangling",
            "../run/resolve/stub".into(),
            "/dangling",
            "run/resolve/stub",
        ),
        (
            "around",
            "data/../data/./".into(),
            "/around/../around/inner",
            "data/inner",
        ),
    ];
    for (link, leads_to, destination, lies_at) in cases {
        let mut fixture = Fixture::new(node)?;
        symlink(&leads_to, fixture.root.join(link)).context("make a link")?;
        let place = if lies_at == "far-away" {
            outside.strip_prefix("/")?.join("inner")
        } else {
            PathBuf::from(lies_at)
        };
        fixture.mount(&volume, destination, &["rbind", "ro"]);
        expect(
            &fixture.run(&["read", &format!("/{}/file", place.display())])?,
            0,
            "of the volume",
        )
        .with_context(|| link.to_owned())?;
        ensure!(
            fixture.root.join(&place).is_dir(),
            "{link}: no folder was made at {}",
            place.display()
        );
        let left: Vec<_> = fs::read_dir(&outside)
            .context("list the folder outside")?
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        ensure!(
            left == ["file"],
            "{link}: something was made outside: {left:?}"
        );
    }
    // A file is mounted on a file, which is created.
    let mut fixture = Fixture::new(node)?;
    symlink("../run/resolve/stub", fixture.root.join("conf")).context("make a link")?;
    fixture.mount(&volume.join("file"), "/conf", &["bind", "ro"]);
    expect(
        &fixture.run(&["read", "/run/resolve/stub"])?,
        0,
        "of the volume",
    )?;
    ensure!(
        fixture.root.join("run/resolve/stub").is_file(),
        "no file was made"
    );
    Ok(Verdict::Holds)
}

fn link_loop_at_a_mount_point_is_refused_by_name(node: &Node) -> Result<Verdict> {
    let mut fixture = Fixture::new(node)?;
    let volume = node.folder()?;
    symlink("two", fixture.root.join("one")).context("make a link")?;
    symlink("one", fixture.root.join("two")).context("make a link")?;
    fixture.mount(&volume, "/one/inner", &["rbind"]);
    expect_refusal(&fixture.run(&["args"])?, &["/one/inner", "symbolic links"])?;
    node.machine().nothing_left(&fixture.id)?;
    Ok(Verdict::Holds)
}

fn root_is_assembled_from_several_mounts(node: &Node) -> Result<Verdict> {
    let version = &node.containerd.install().version;
    if version.starts_with("1.6") {
        return Ok(Verdict::Skipped(format!(
            "containerd {version} supports no mounts below a root"
        )));
    }
    let fixture = Fixture::new(node)?;
    let (outside, volume) = (node.folder()?, node.folder()?);
    fs::write(volume.join("file"), "of the second mount").context("write a file")?;
    // In the image: a link that leads out of it, and the folder that it points to if it is resolved
    // in the root.
    symlink(&outside, fixture.root.join("link")).context("make a link")?;
    let inside = fixture.root.join(outside.strip_prefix("/")?);
    fs::create_dir_all(&inside).context("make a folder")?;
    // Its task is created again, with other mounts.
    let task = fixture.container(&["read", "/data/file"])?.create()?;
    let tasks = node.tasks();
    tasks.kill(&fixture.id, "", 9)?;
    task.wait(SETTLE_TIMEOUT)?;
    tasks.delete(&fixture.id)?;
    let text = |path: &Path| path.display().to_string();
    let mounts = [
        Mount::bind(&text(&fixture.root), ""),
        Mount::bind(&text(&volume), "/data"),
        Mount::bind(&text(&volume), "/link"),
    ];
    tasks.create(&fixture.id, &mounts)?;
    let pid = i32::try_from(tasks.state(&fixture.id, "")?.pid)?;
    let machine = node.machine();
    let at = |path: &str| machine.of(pid, &format!("root{path}/file")).exists();
    ensure!(
        at("/data") && at(&text(&outside)),
        "the mounts are not in the root:\n{}",
        machine.read(pid, "mountinfo")?
    );
    ensure!(
        !outside.join("file").exists(),
        "the second mount is outside"
    );
    tasks.start(&fixture.id, "")?;
    let end = tasks.wait(&fixture.id, "")?;
    tasks.delete(&fixture.id)?;
    node.containerd
        .ctr()
        .args(["containers", "rm", &fixture.id])
        .done()?;
    ensure!(end.code == 0, "{end:?}");
    machine.nothing_left(&fixture.id)?;
    Ok(Verdict::Holds)
}
