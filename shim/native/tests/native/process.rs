//! Tests of the properties of a container's process, and of one that is started in it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use native_container::Stdio;
use serde_json::{Value, json};

use crate::bundle::{Bundle, end, exec, kill, pipe, status, until_it_runs, wait};

fn link(pid: u32, name: &str) -> Result<PathBuf> {
    fs::read_link(format!("/proc/{pid}/{name}")).with_context(|| format!("{name} of {pid}"))
}

pub(crate) fn as_specified() -> Result<()> {
    let mut bundle = Bundle::new(&["sleep"])?;
    let process = &mut bundle.config["process"];
    process["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [7, 8]});
    process["cwd"] = json!("/place");
    process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 78}]);
    process["oomScoreAdj"] = json!(321);
    let container = bundle.start()?;
    let pid = container.pid();
    until_it_runs(pid)?;
    ensure!(status(pid, "Uid")? == "1000 1000 1000 1000");
    ensure!(status(pid, "Gid")? == "1001 1001 1001 1001");
    ensure!(status(pid, "Groups")? == "7 8");
    ensure!(status(pid, "NoNewPrivs")? == "1");
    ensure!(
        u64::from_str_radix(&status(pid, "CapBnd")?, 16)? == 1 << 5,
        "CAP_KILL is 5: {}",
        status(pid, "CapBnd")?
    );
    ensure!(
        link(pid, "cwd")?.ends_with("place"),
        "{}",
        link(pid, "cwd")?.display()
    );
    ensure!(
        fs::read(format!("/proc/{pid}/environ"))? == b"PATH=/bin\0NAME=value\0HOME=/\0".as_slice(),
        "the environment is as given"
    );
    ensure!(
        fs::read_to_string(format!("/proc/{pid}/limits"))?
            .lines()
            .any(|line| line.starts_with("Max open files            77 "))
    );
    ensure!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj"))? == "321\n");
    for namespace in ["pid", "mnt", "ipc", "uts", "net"] {
        let name = format!("ns/{namespace}");
        ensure!(
            link(pid, &name)? != link(std::process::id(), &name)?,
            "{namespace} is the host's"
        );
    }
    end(&container)?;
    bundle.nothing_is_left()
}

pub(crate) fn signals_are_fresh() -> Result<()> {
    let bundle = Bundle::new(&["sleep"])?;
    let container = bundle.start()?;
    let second = exec(&bundle, &container, &json!({}), Stdio::default())?.start()?;
    for pid in [container.pid(), second.pid()] {
        until_it_runs(pid)?;
        for key in ["SigIgn", "SigBlk"] {
            let set = u64::from_str_radix(&status(pid, key)?, 16)?;
            // 32 and 33 are the C library's own; it lets nobody change them.
            ensure!(set & !(0b11 << 31) == 0, "{key}: {set:#x}");
        }
    }
    kill(second.pidfd())?;
    end(&container)
}

pub(crate) fn descriptors_are_its_own() -> Result<()> {
    let bundle = Bundle::new(&["sleep"])?;
    let container = bundle.start()?;
    let second = exec(&bundle, &container, &json!({}), Stdio::default())?.start()?;
    for pid in [container.pid(), second.pid()] {
        until_it_runs(pid)?;
        let mut held: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<Result<_>>()?;
        held.sort();
        ensure!(held == ["0", "1", "2"], "{held:?}");
        ensure!(
            link(pid, "fd/0")?.ends_with("null"),
            "{}",
            link(pid, "fd/0")?.display()
        );
    }
    kill(second.pidfd())?;
    end(&container)
}

pub(crate) fn shared_processes() -> Result<()> {
    let mut bundle = Bundle::new(&["sleep"])?;
    let sandbox = format!("/proc/{}/ns/pid", std::process::id());
    bundle.config["linux"]["namespaces"][0] = json!({"type": "pid", "path": sandbox});
    let container = bundle.start()?;
    ensure!(
        link(container.pid(), "ns/pid")? != link(std::process::id(), "ns/pid")?,
        "it sees the host's processes"
    );
    // One that joins the first's, as a debugging container does.
    let mut second = Bundle::new(&["sleep"])?;
    second.config["linux"]["namespaces"][0] =
        json!({"type": "pid", "path": format!("/proc/{}/ns/pid", container.pid())});
    let debugger = second.start()?;
    ensure!(link(container.pid(), "ns/pid")? == link(debugger.pid(), "ns/pid")?);
    end(&debugger)?;
    end(&container)
}

pub(crate) fn host_pid() -> Result<()> {
    let mut bundle = Bundle::new(&["sleep"])?;
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .context("a list")?
        .remove(0);
    let container = bundle.start()?;
    ensure!(link(container.pid(), "ns/pid")? == link(std::process::id(), "ns/pid")?);
    end(&container)?;
    bundle.nothing_is_left()
}

pub(crate) fn as_kubernetes_sets_it() -> Result<()> {
    let mut bundle = Bundle::new(&["sleep"])?;
    let hosts = bundle.folder.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost\n")?;
    fs::create_dir_all(bundle.root().join("etc"))?;
    fs::create_dir_all(bundle.root().join("sys"))?;
    let limits = ["nosuid", "noexec", "nodev"];
    let more = json!([
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid",
        "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": limits},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid",
        "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec",
        "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
        {"destination": "/etc/hosts", "type": "bind", "source": hosts, "options": ["rbind",
        "rprivate", "ro"]}
    ]);
    bundle.config["mounts"]
        .as_array_mut()
        .context("a list")?
        .extend(more.as_array().context("a list")?.iter().cloned());
    bundle.config["root"]["readonly"] = json!(true);
    let linux = &mut bundle.config["linux"];
    linux["maskedPaths"] = json!(["/proc/interrupts", "/proc/acpi", "/proc/no-such-file"]);
    linux["readonlyPaths"] = json!(["/proc/sys"]);
    linux["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "7"});
    linux["resources"] = json!({
        "memory": {"limit": 67_108_864}, "cpu": {"shares": 102, "quota": 20000, "period": 100_000},
        "pids": {"limit": 10},
        "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1,
        "minor": 3, "access": "rwm"}]
    });
    let container = bundle.start()?;
    until_it_runs(container.pid())?;
    let root = PathBuf::from(format!("/proc/{}/root", container.pid()));
    let read_only = |path: &str| {
        fs::write(root.join(path), "7")
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ReadOnlyFilesystem)
    };
    ensure!(
        read_only("new") && read_only("etc/hosts") && read_only("sys/kernel/uevent_seqnum"),
        "something can be written to"
    );
    ensure!(
        read_only("proc/sys/kernel/domainname"),
        "/proc/sys can be written to"
    );
    ensure!(
        fs::read(root.join("proc/interrupts"))?.is_empty(),
        "/proc/interrupts can be read"
    );
    let mounts = fs::read_to_string(format!("/proc/{}/mounts", container.pid()))?;
    for place in [
        "/dev/pts devpts",
        "/dev/mqueue mqueue",
        "/dev/shm tmpfs",
        "/sys sysfs ro",
        "/etc/hosts ",
    ] {
        ensure!(mounts.contains(place), "{place} is not mounted: {mounts}");
    }
    let own = [
        "--net",
        "--target",
        &container.pid().to_string(),
        "cat",
        "/proc/sys/net/ipv4/ip_unprivileged_port_start",
    ]
    .map(str::to_owned);
    ensure!(
        Command::new("nsenter").args(own).output()?.stdout == b"7\n",
        "the sysctl is not set"
    );
    let places = bundle.cgroups()?;
    let says = |file: &str, value: &str| {
        places.iter().any(|place| {
            fs::read_to_string(place.join(file)).is_ok_and(|text| text.trim() == value)
        })
    };
    ensure!(
        says("memory.limit_in_bytes", "67108864") || says("memory.max", "67108864"),
        "no limit of memory in {places:?}"
    );
    ensure!(says("pids.max", "10"), "no limit of processes");
    ensure!(
        says("cpu.cfs_quota_us", "20000") || says("cpu.max", "20000 100000"),
        "no limit of processor time"
    );
    end(&container)?;
    bundle.nothing_is_left()
}

pub(crate) fn exec_joins() -> Result<()> {
    let bundle = Bundle::new(&["sleep"])?;
    let container = bundle.start()?;
    let changes = json!({"user": {"uid": 5, "gid": 6, "additionalGids": [9]}, "cwd": "/place",
        "env": ["PATH=/bin", "ONLY=this"]});
    let sleeper = exec(&bundle, &container, &changes, Stdio::default())?.start()?;
    let pid = sleeper.pid();
    until_it_runs(pid)?;
    for namespace in ["pid", "mnt", "ipc", "uts", "net"] {
        let name = format!("ns/{namespace}");
        ensure!(
            link(pid, &name)? == link(container.pid(), &name)?,
            "{namespace} is another"
        );
    }
    ensure!(
        fs::read_to_string(format!("/proc/{pid}/cgroup"))?.contains(&bundle.id),
        "it is outside of the cgroup"
    );
    ensure!(
        status(pid, "Uid")? == "5 5 5 5"
            && status(pid, "Gid")? == "6 6 6 6"
            && status(pid, "Groups")? == "9"
    );
    ensure!(link(pid, "cwd")?.ends_with("place"));
    ensure!(fs::read(format!("/proc/{pid}/environ"))?.starts_with(b"PATH=/bin\0ONLY=this\0"));
    kill(sleeper.pidfd())?;

    let (stdout, printed) = pipe()?;
    let stdio = Stdio {
        stdout: Some(stdout),
        ..Stdio::default()
    };
    let seven = exec(
        &bundle,
        &container,
        &json!({"args": ["/bin/native", "exit", "7"]}),
        Stdio::default(),
    )?
    .start()?;
    let prints = exec(
        &bundle,
        &container,
        &json!({"args": ["native", "args", "a b", ""]}),
        stdio,
    )?
    .start()?;
    ensure!(printed()? == "native\nargs\na b\n\n");
    ensure!(wait(prints.pidfd())? == 0);
    ensure!(wait(seven.pidfd())? == 7);
    end(&container)?;
    bundle.nothing_is_left()
}

/// A filter as containerd writes it, that forbids what the test program does not do.
fn filter() -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapon"],
        "action": "SCMP_ACT_ERRNO"}]})
}

pub(crate) fn exec_is_confined() -> Result<()> {
    for (no_new_privileges, user) in [(true, 0), (false, 0), (true, 1000), (false, 1000)] {
        let mut bundle = Bundle::new(&["sleep"])?;
        bundle.config["linux"]["seccomp"] = filter();
        let process = &mut bundle.config["process"];
        process["user"]["uid"] = json!(user);
        if no_new_privileges {
            process["noNewPrivileges"] = json!(true);
        } else {
            process
                .as_object_mut()
                .context("an object")?
                .remove("noNewPrivileges");
        }
        let container = bundle.start()?;
        let second = exec(&bundle, &container, &json!({}), Stdio::default())?.start()?;
        for pid in [container.pid(), second.pid()] {
            until_it_runs(pid)?;
        }
        for key in [
            "Seccomp",
            "Seccomp_filters",
            "NoNewPrivs",
            "CapBnd",
            "CapPrm",
            "CapEff",
            "CapInh",
            "CapAmb",
        ] {
            let [first, second] = [status(container.pid(), key)?, status(second.pid(), key)?];
            ensure!(
                first == second,
                "{key} of the container {first}, of the exec {second} ({no_new_privileges}, {user})"
            );
        }
        ensure!(status(second.pid(), "Seccomp")? == "2");
        kill(second.pidfd())?;
        end(&container)?;
    }
    Ok(())
}

pub(crate) fn label_is_refused() -> Result<()> {
    if fs::exists("/sys/fs/selinux/enforce")? {
        // Here a label can be given.
        return Ok(());
    }
    let mut bundle = Bundle::new(&["sleep"])?;
    let label = "system_u:system_r:container_t:s0";
    bundle.config["process"]["selinuxLabel"] = json!(label);
    let error = bundle
        .create()
        .err()
        .context("a machine without SELinux")?
        .to_string();
    ensure!(
        error.starts_with(&format!(
            "cannot give the process the SELinux label {label:?}: "
        )),
        "{error}"
    );
    bundle.nothing_is_left()
}

pub(crate) fn fifty_execs() -> Result<()> {
    let bundle = Bundle::new(&["sleep"])?;
    let container = bundle.start()?;
    let cycle = || {
        let process = exec(
            &bundle,
            &container,
            &json!({"args": ["native", "exit", "3"]}),
            Stdio::default(),
        )?
        .start()?;
        ensure!(wait(process.pidfd())? == 3);
        let files: Vec<_> = fs::read_dir(bundle.state().join("native"))?
            .map(|file| Ok(file?.file_name()))
            .collect::<Result<_>>()?;
        ensure!(files.len() == 3, "{files:?}");
        anyhow::Ok(())
    };
    cycle()?;
    let counts = || -> Result<_> {
        let children = crate::bundle::children()?.len();
        Ok((
            fs::read_dir("/proc/self/fd")?.count(),
            fs::read_dir("/proc/self/task")?.count(),
            children,
        ))
    };
    let before = counts()?;
    for _ in 0..50 {
        cycle()?;
    }
    ensure!(
        counts()? == before,
        "descriptors, threads, children: {:?}, before {before:?}",
        counts()?
    );
    end(&container)?;
    bundle.nothing_is_left()
}
