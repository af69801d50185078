//! From creation to deletion.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use native_container::NativeError;
use serde_json::json;

use crate::bundle::{Bundle, children, end, kill, wait};

pub(crate) fn waits_for_its_start() -> Result<()> {
    let bundle = Bundle::new(&["exit", "42"])?;
    let container = bundle.create()?;
    ensure!(
        fs::read_to_string(format!("/proc/{}/comm", container.pid()))?.trim() != "native",
        "it runs before its start"
    );
    ensure!(!bundle.cgroups()?.is_empty(), "it has no cgroup");
    container.start()?;
    ensure!(wait(container.pidfd())? == 42);
    container.delete()?;
    bundle.nothing_is_left()
}

pub(crate) fn fifty_leave_nothing() -> Result<()> {
    let bundle = Bundle::new(&["exit", "0"])?;
    let cycle = || {
        let container = bundle.start()?;
        ensure!(wait(container.pidfd())? == 0);
        container.delete()?;
        bundle.nothing_is_left()
    };
    // The first makes what stays: threads' stacks, file systems' caches.
    cycle()?;
    let counts = || -> Result<_> {
        Ok((
            fs::read_dir("/proc/self/fd")?.count(),
            fs::read_dir("/proc/self/task")?.count(),
        ))
    };
    let before = counts()?;
    for _ in 0..50 {
        cycle()?;
    }
    ensure!(
        counts()? == before,
        "descriptors and threads: {:?}, before {before:?}",
        counts()?
    );
    Ok(())
}

pub(crate) fn two_at_once() -> Result<()> {
    for _ in 0..5 {
        let bundles = [Bundle::new(&["exit", "1"])?, Bundle::new(&["exit", "2"])?];
        let codes = std::thread::scope(|scope| {
            let run = |bundle: &Bundle| {
                let container = bundle.start()?;
                let code = wait(container.pidfd())?;
                container.delete()?;
                anyhow::Ok(code)
            };
            bundles
                .each_ref()
                .map(|bundle| scope.spawn(move || run(bundle)))
                .map(|thread| thread.join().expect("no panic"))
        });
        let [one, two] = codes;
        ensure!((one?, two?) == (1, 2));
        for bundle in &bundles {
            bundle.nothing_is_left()?;
        }
    }
    Ok(())
}

pub(crate) fn deleted_after_a_kill() -> Result<()> {
    let bundle = Bundle::new(&["sleep"])?;
    let container = bundle.start()?;
    kill(container.pidfd())?;
    container.delete()?;
    bundle.nothing_is_left()
}

pub(crate) fn deleted_while_it_runs() -> Result<()> {
    let bundle = Bundle::new(&["sleep"])?;
    let container = bundle.start()?;
    container.delete()?;
    ensure!(
        wait(container.pidfd())? == 137,
        "its end can still be waited for"
    );
    bundle.nothing_is_left()
}

pub(crate) fn deleted_before_its_start() -> Result<()> {
    let bundle = Bundle::new(&["sleep"])?;
    let container = bundle.create()?;
    container.delete()?;
    ensure!(wait(container.pidfd())? == 137);
    bundle.nothing_is_left()
}

pub(crate) fn deleted_twice() -> Result<()> {
    let bundle = Bundle::new(&["sleep"])?;
    let container = bundle.start()?;
    end(&container)?;
    container.delete()?;
    Ok(())
}

pub(crate) fn started_once() -> Result<()> {
    let bundle = Bundle::new(&["sleep"])?;
    let container = bundle.start()?;
    let error = container.start().err().context("a second start")?;
    ensure!(matches!(error, NativeError::Start { .. }), "{error}");
    let exists = bundle
        .create()
        .err()
        .context("a second container of the same id")?;
    ensure!(
        matches!(
            &exists,
            NativeError::State {
                action: "create",
                ..
            }
        ),
        "{exists}"
    );
    ensure!(children()?.len() == 3, "the first one lives on");
    end(&container)
}

pub(crate) fn hooks_run() -> Result<()> {
    let mut bundle = Bundle::new(&["exit", "0"])?;
    let log = bundle.folder.path().join("hooks");
    let hook = |name: &str| {
        let script = format!("cat >/dev/null; echo {name} >>{}", log.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    bundle.config["hooks"] = json!({"createRuntime": hook("created"), "poststart": hook("started"),
        "poststop": hook("stopped")});
    let container = bundle.create()?;
    ensure!(fs::read_to_string(&log)? == "created\n");
    container.start()?;
    ensure!(fs::read_to_string(&log)? == "created\nstarted\n");
    ensure!(wait(container.pidfd())? == 0);
    container.delete()?;
    ensure!(fs::read_to_string(&log)? == "created\nstarted\nstopped\n");
    bundle.nothing_is_left()
}
