//! Tests of faults: each is reported with its cause and leaves nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use native_container::{NativeError, ProgramFault, Stdio};
use nix::mount::{MsFlags, mount, umount};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::json;

use crate::bundle::{Bundle, children, end, exec, pipe, wait};

fn fault(error: NativeError) -> Result<ProgramFault> {
    match error {
        NativeError::Program(fault) => Ok(fault),
        other => anyhow::bail!("another error: {other}"),
    }
}

/// A program that the kernel does not know how to execute.
fn place_refused(bundle: &Bundle) -> Result<()> {
    let path = bundle.root().join("bin/refused");
    fs::write(&path, "no program")?;
    Ok(fs::set_permissions(
        &path,
        fs::Permissions::from_mode(0o755),
    )?)
}

pub(crate) fn missing_program() -> Result<()> {
    let mut bundle = Bundle::new(&[])?;
    bundle.config["process"]["args"] = json!(["nothing"]);
    let missing = fault(bundle.create().err().context("no such program")?)?;
    ensure!(matches!(missing, ProgramFault::NotFound(_)), "{missing:?}");
    ensure!(
        missing.to_string()
            == r#"cannot execute "nothing": no such program in the container's PATH (/bin)"#,
        "{missing}"
    );
    bundle.nothing_is_left()?;
    bundle.config["process"]["args"] = json!(["/place"]);
    let folder = fault(bundle.create().err().context("a folder is no program")?)?;
    ensure!(
        matches!(folder, ProgramFault::NotExecutable(_)),
        "{folder:?}"
    );
    bundle.nothing_is_left()
}

pub(crate) fn refused_program() -> Result<()> {
    let mut bundle = Bundle::new(&[])?;
    place_refused(&bundle)?;
    bundle.config["process"]["args"] = json!(["refused"]);
    let (stderr, complained) = pipe()?;
    let container = bundle.create_with(Stdio {
        stderr: Some(stderr),
        ..Stdio::default()
    })?;
    container.start()?;
    ensure!(wait(container.pidfd())? == 126);
    let complaint = complained()?;
    ensure!(
        complaint.starts_with(r#"cannot execute "/bin/refused": Exec format error"#),
        "{complaint}"
    );
    container.delete()?;
    bundle.nothing_is_left()
}

pub(crate) fn exec_faults() -> Result<()> {
    let bundle = Bundle::new(&["sleep"])?;
    place_refused(&bundle)?;
    let container = bundle.start()?;
    let start = |program: &str| -> Result<_> {
        let started = exec(
            &bundle,
            &container,
            &json!({"args": [program]}),
            Stdio::default(),
        )?
        .start();
        fault(started.err().context("it cannot be started")?)
    };
    ensure!(matches!(start("nothing")?, ProgramFault::NotFound(_)));
    let refused = start("refused")?;
    ensure!(
        matches!(refused, ProgramFault::NotExecutable(_))
            && refused.to_string().contains("Exec format error"),
        "{refused}"
    );
    ensure!(
        children()?.len() == 3,
        "besides the forkers and the container: {:?}",
        children()?
    );
    end(&container)?;
    bundle.nothing_is_left()
}

pub(crate) fn exec_before_start() -> Result<()> {
    let bundle = Bundle::new(&["sleep"])?;
    let container = bundle.create()?;
    let error = exec(&bundle, &container, &json!({}), Stdio::default())?
        .start()
        .err()
        .context("it does not run")?;
    ensure!(matches!(error, NativeError::NotRunning { .. }), "{error}");
    ensure!(
        error.to_string() == format!("container {} is not running: it is created", bundle.id),
        "{error}"
    );
    end(&container)?;
    bundle.nothing_is_left()
}

pub(crate) fn missing_state() -> Result<()> {
    let bundle = Bundle::new(&["sleep"])?;
    fs::remove_dir(bundle.state())?;
    let error = bundle.create().err().context("no folder")?;
    ensure!(
        error.to_string() == format!("cannot create {}", bundle.state().join("native").display()),
        "{error}"
    );
    fs::create_dir(bundle.state())?;
    bundle.nothing_is_left()
}

/// A file system that holds `files` files.
struct Small<'a>(&'a Bundle);

impl<'a> Small<'a> {
    fn new(bundle: &'a Bundle, files: u32) -> Result<Self> {
        let options = format!("nr_inodes={files},size=1m");
        mount(
            Some("tmpfs"),
            &bundle.state(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )?;
        Ok(Self(bundle))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = umount(&self.0.state());
    }
}

pub(crate) fn full_disk() -> Result<()> {
    let bundle = Bundle::new(&["exit", "0"])?;
    let mut failures = 0;
    for files in 1..20 {
        let _small = Small::new(&bundle, files)?;
        match bundle.create() {
            Err(error) => {
                failures += 1;
                let cause = std::error::Error::source(&error)
                    .map(ToString::to_string)
                    .unwrap_or_default();
                ensure!(
                    format!("{error}: {cause}").contains("No space left"),
                    "with {files} files: {error}: {cause}"
                );
                bundle
                    .nothing_is_left()
                    .with_context(|| format!("with {files} files"))?;
            }
            Ok(container) => {
                container.start()?;
                ensure!(wait(container.pidfd())? == 0);
                container.delete()?;
                ensure!(failures > 4, "{failures} failures only");
                return bundle.nothing_is_left();
            }
        }
    }
    anyhow::bail!("20 files are not enough")
}

pub(crate) fn killed_worker() -> Result<()> {
    let mut bundle = Bundle::new(&["sleep"])?;
    let kill = json!([{"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"]}]);
    bundle.config["hooks"] = json!({ "createRuntime": kill });
    let error = bundle.create().err().context("its worker was killed")?;
    ensure!(matches!(error, NativeError::WorkerLost { .. }), "{error}");
    bundle.nothing_is_left()
}

/// Does `work` and kills its worker `delay` after its fork, if the killer finds it in time.
fn with_worker_killed<T>(delay: Duration, work: impl FnOnce() -> T) -> Result<T> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| kill_next_worker(delay, &done));
        let result = work();
        done.store(true, Ordering::Relaxed);
        killer.join().expect("no panic").map(|()| result)
    })
}

fn kill_next_worker(delay: Duration, done: &AtomicBool) -> Result<()> {
    let worker = loop {
        // The first two are the forkers, whose name it has at first.
        let named = children()?
            .into_iter()
            .filter(|child| {
                child.contains("(wasmedge-forker)") || child.contains("(native-worker)")
            })
            .nth(2);
        if let Some(pid) =
            named.and_then(|child| Pid::from_raw(child.split(' ').next()?.parse().ok()?))
        {
            break pidfd_open(pid, PidfdFlags::empty())?;
        }
        if done.load(Ordering::Relaxed) {
            return Ok(());
        }
    };
    std::thread::sleep(delay);
    // It may be done by now.
    let _ = pidfd_send_signal(worker, Signal::KILL);
    Ok(())
}

/// From right after a worker's fork until it is surely done.
fn moments() -> impl Iterator<Item = Duration> {
    (0..40).map(|step| Duration::from_micros(step * 500))
}

pub(crate) fn worker_killed_at_any_moment() -> Result<()> {
    let bundle = Bundle::new(&["sleep"])?;
    let mut lost = 0;
    for delay in moments() {
        match with_worker_killed(delay, || bundle.create())? {
            Ok(container) => end(&container)?,
            Err(NativeError::WorkerLost { .. }) => lost += 1,
            Err(error) => anyhow::bail!("after {delay:?}: {error}"),
        }
        bundle
            .nothing_is_left()
            .with_context(|| format!("killed after {delay:?}"))?;
    }
    ensure!(lost > 3, "killed {lost} times only");
    Ok(())
}

pub(crate) fn exec_worker_killed_at_any_moment() -> Result<()> {
    let bundle = Bundle::new(&["sleep"])?;
    let container = bundle.start()?;
    let mut lost = 0;
    for delay in moments() {
        let process = exec(
            &bundle,
            &container,
            &json!({"args": ["native", "exit", "0"]}),
            Stdio::default(),
        )?;
        match with_worker_killed(delay, || process.start())? {
            Ok(process) => ensure!(wait(process.pidfd())? == 0),
            Err(NativeError::WorkerLost { .. }) => lost += 1,
            Err(error) => anyhow::bail!("after {delay:?}: {error}"),
        }
    }
    ensure!(lost > 3, "killed {lost} times only");
    ensure!(
        children()?.len() == 3,
        "besides the forkers and the container: {:?}",
        children()?
    );
    let process = exec(
        &bundle,
        &container,
        &json!({"args": ["native", "exit", "9"]}),
        Stdio::default(),
    )?
    .start()?;
    ensure!(
        wait(process.pidfd())? == 9,
        "the container takes processes as before"
    );
    end(&container)?;
    bundle.nothing_is_left()
}

pub(crate) fn missing_root() -> Result<()> {
    let mut bundle = Bundle::new(&["sleep"])?;
    bundle.config["root"]["path"] = json!("nowhere");
    let error = bundle.create().err().context("no root")?;
    ensure!(matches!(error, NativeError::Setup { .. }), "{error}");
    bundle.nothing_is_left()
}

pub(crate) fn missing_volume() -> Result<()> {
    let mut bundle = Bundle::new(&["sleep"])?;
    let volume = json!({"destination": "/volume", "type": "bind", "source": "/nowhere/at/all",
        "options": ["bind"]});
    bundle.config["mounts"]
        .as_array_mut()
        .context("a list")?
        .push(volume);
    let error = bundle.create().err().context("no volume")?;
    ensure!(error.to_string().contains("/nowhere/at/all"), "{error}");
    bundle.nothing_is_left()
}
