//! Root file systems and containers that would have the set-up act on the node.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use native_container::{Container, Stdio};
use serde_json::json;

use crate::bundle::{Bundle, end, exec, pipe, until_it_runs, wait};

/// Binds a folder of a container's root over another, in the container's mount namespace.
fn bind_inside(container: &Container, from: &str, onto: &str) -> Result<()> {
    // By the node's program: the container has none that mounts. It must take the links as they
    // are: their text is `/`.
    let root = format!("/proc/{}/root", container.pid());
    let script = format!("mount --no-canonicalize --bind {root}{from} {root}{onto}");
    let done = Command::new("nsenter")
        .args([
            "--target",
            &container.pid().to_string(),
            "--mount",
            "--root=/",
            "sh",
            "-c",
            &script,
        ])
        .output()?;
    ensure!(done.status.success(), "{script}: {done:?}");
    Ok(())
}

pub(crate) fn root_with_a_link_in_place_of_dev_proc_or_sys_is_refused_and_nothing_is_made_on_the_node()
-> Result<()> {
    for name in ["dev", "proc", "sys"] {
        let bundle = Bundle::new(&["sleep"])?;
        let outside = tempfile::tempdir()?;
        fs::write(outside.path().join("ptmx"), "the node's")?;
        let place = bundle.root().join(name);
        if place.exists() {
            fs::remove_dir(&place)?;
        }
        symlink(outside.path(), &place)?;
        // Within the root the link leads to a folder too.
        let inside = bundle.root().join(outside.path().strip_prefix("/")?);
        fs::create_dir_all(inside)?;
        let error = bundle
            .create()
            .err()
            .context("a root with such a link is used")?
            .to_string();
        ensure!(
            error.contains(&format!("/{name} of the container's root"))
                && error.contains("symbolic link"),
            "{error}"
        );
        let names: Vec<_> = fs::read_dir(outside.path())?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<Result<_>>()?;
        ensure!(
            names == ["ptmx"] && !outside.path().join("ptmx").is_symlink(),
            "{name}: the node's folder has {names:?}"
        );
        bundle.nothing_is_left()?;
    }
    Ok(())
}

pub(crate) fn selinux_label_of_an_exec_is_never_written_to_a_file_of_the_container() -> Result<()> {
    let bundle = Bundle::new(&["sleep"])?;
    let container = bundle.start()?;
    until_it_runs(container.pid())?;
    // What a container with CAP_SYS_ADMIN can do: another /proc, in which the label's file is one
    // of its own.
    let fake = bundle.root().join("place/thread-self/attr");
    fs::create_dir_all(&fake)?;
    fs::write(fake.join("exec"), "")?;
    bind_inside(&container, "/place", "/proc")?;
    let label = "system_u:system_r:container_t:s0";
    let started = exec(
        &bundle,
        &container,
        &json!({"selinuxLabel": label, "args": ["native", "exit", "3"]}),
        Stdio::default(),
    )?
    .start();
    let written = fs::read_to_string(fake.join("exec"))?;
    ensure!(
        written.is_empty(),
        "the label went to a file of the container's: {written:?}"
    );
    match started {
        Ok(process) => {
            ensure!(wait(process.pidfd())? == 3 && Path::new("/sys/fs/selinux/enforce").exists());
        }
        Err(error) => ensure!(
            error
                .to_string()
                .contains("cannot give the process the SELinux label"),
            "{error}"
        ),
    }
    end(&container)
}

pub(crate) fn native_container_and_each_exec_have_keyrings_of_their_own() -> Result<()> {
    let bundle = Bundle::new(&["sleep"])?;
    let container = bundle.start()?;
    let host = Command::new(bundle.root().join("bin/native"))
        .arg("keyring")
        .output()?;
    let mut seen = vec![String::from_utf8(host.stdout)?];
    for user in [0, 0, 1000] {
        let (stdout, printed) = pipe()?;
        let stdio = Stdio {
            stdout: Some(stdout),
            ..Stdio::default()
        };
        let changes = json!({"args": ["native", "keyring"], "user": {"uid": user, "gid": 0}});
        let process = exec(&bundle, &container, &changes, stdio)?.start()?;
        let keyring = printed()?;
        ensure!(
            wait(process.pidfd())? == 0 && !seen.contains(&keyring),
            "user {user} has the keyring {keyring:?} of {seen:?}"
        );
        seen.push(keyring);
    }
    end(&container)
}
