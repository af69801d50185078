//! Rules over processes that are killed or work at once. This program is each of them: with the
//! first argument `act` it plays a part for the test that has started it.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use artifact_store::{
    ARTIFACT, DraftSpace, EngineName, Failed, KeyInputs, Made, Percent, Removal, Sha256Digest,
    Store, StoreOptions, Tier,
};
use libtest_mimic::{Arguments, Failed as TestFailed, Trial};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags, openat};
use tempfile::TempDir;

/// First argument of a process that plays a part.
const ACT: &str = "act";
const CODE: &[u8] = b"compiled code";
/// More stops than any part has system calls.
const MAX_STOPS: u32 = 5000;

type Test = fn(&Path) -> Result<()>;

const TESTS: &[(&str, Test)] = &[
    (
        "publication_killed_at_any_system_call_leaves_an_artifact_or_nothing",
        killed_publication,
    ),
    (
        "replacement_killed_at_any_system_call_leaves_an_artifact_or_nothing",
        killed_replacement,
    ),
    (
        "removal_killed_at_any_system_call_leaves_an_artifact_or_nothing",
        killed_removal,
    ),
    (
        "remembering_killed_at_any_system_call_leaves_a_failure_or_nothing",
        killed_remembering,
    ),
    (
        "artifact_that_eight_processes_need_at_once_is_compiled_once",
        single_flight,
    ),
    ("lock_ends_with_its_holder", lock_ends),
    ("use_of_an_artifact_ends_with_its_process", use_ends),
];

const PARTS: &[(&str, Test)] = &[
    ("publish", |root| traced(|| publish(root))),
    ("replace", |root| traced(|| replace(root))),
    ("remove", |root| traced(|| remove(root))),
    ("fail", |root| traced(|| fail(root))),
    ("obtain", obtain),
    ("lock", |root| {
        let _lock = store(root)?.lock(&inputs().key())?;
        wait_for_end()
    }),
    ("use", |root| {
        let _artifact = store(root)?.find(&inputs().key())?.context("find it")?;
        wait_for_end()
    }),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(ACT) {
        return act(arguments);
    }
    let is_root = rustix::process::geteuid().is_root();
    let trial = |(name, test): &(&'static str, Test)| {
        let (name, test) = (*name, *test);
        let run = move || in_folder(test).map_err(|error| TestFailed::from(format!("{error:#}")));
        Trial::test(name, run).with_ignored_flag(!is_root)
    };
    let trials = TESTS.iter().map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn in_folder(test: Test) -> Result<()> {
    let folder = TempDir::new()?;
    test(&folder.path().join("artifacts"))
}

#[expect(
    clippy::print_stderr,
    reason = "a process that plays a part reports its error to the test"
)]
fn act(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let (Some(part), Some(root)) = (arguments.next(), arguments.next()) else {
        return ExitCode::FAILURE;
    };
    let play = PARTS.iter().find(|(name, _)| *name == part);
    let played = play
        .context("know the part")
        .and_then(|(_, play)| play(Path::new(&root)));
    if let Err(error) = &played {
        eprintln!("{part}: {error:#}");
    }
    if played.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn store(root: &Path) -> Result<Store> {
    let options = StoreOptions {
        folder: root.to_owned(),
        max_bytes: 1 << 30,
        max_disk_share: Percent::WHOLE,
    };
    Ok(Store::open(options)?)
}

fn inputs() -> KeyInputs {
    KeyInputs {
        module: Sha256Digest::of(b"module"),
        engine: EngineName::Wasmtime,
        version: "48.0.8".to_owned(),
        tier: Tier::Optimized,
        target: "x86_64-unknown-linux-gnu".to_owned(),
        cpu: "Vendor/6/85 sse2".to_owned(),
        options: Vec::new(),
    }
}

fn publish(root: &Path) -> Result<()> {
    let store = store(root)?;
    let lock = store.lock(&inputs().key())?;
    publish_with(&store, lock)
}

fn publish_with(store: &Store, lock: artifact_store::KeyLock) -> Result<()> {
    let space = DraftSpace {
        max_bytes: 1 << 20,
        uid: 0,
        gid: 0,
    };
    let draft = store.draft(&lock, space)?;
    let flags = OFlags::WRONLY | OFlags::CREATE;
    let mut file = File::from(openat(draft.folder(), ARTIFACT, flags, Mode::RUSR)?);
    file.write_all(CODE)?;
    let made = Made {
        inputs: inputs(),
        module_name: "module".to_owned(),
        compile_cpu_ms: 0,
        compile_peak_bytes: 0,
    };
    store.publish(lock, draft, made)?;
    Ok(())
}

/// Publishes over an entry that is damaged, without a look-up that would remove it.
fn replace(root: &Path) -> Result<()> {
    publish(root)
}

fn remove(root: &Path) -> Result<()> {
    ensure!(store(root)?.remove(&inputs().key())? == Removal::Removed);
    Ok(())
}

fn fail(root: &Path) -> Result<()> {
    let store = store(root)?;
    let lock = store.lock(&inputs().key())?;
    let failed = Failed {
        inputs: inputs(),
        module_name: "module".to_owned(),
        reason: "crashed".to_owned(),
    };
    Ok(store.remember_failure(&lock, failed)?)
}

/// Finds the artifact, or compiles it, and counts that in a file beside the store.
fn obtain(root: &Path) -> Result<()> {
    let store = store(root)?;
    let key = inputs().key();
    if store.find(&key)?.is_none() {
        let lock = store.lock(&key)?;
        if store.find(&key)?.is_none() {
            let compiles = root.with_file_name("compiles");
            File::options()
                .create(true)
                .append(true)
                .open(compiles)?
                .write_all(b"x")?;
            publish_with(&store, lock)?;
        }
    }
    let artifact = store.find(&key)?.context("find the artifact")?;
    ensure!(artifact.record().sha256 == Sha256Digest::of(CODE));
    Ok(())
}

/// Reports to the test that this process is ready, and stays until it is killed.
#[expect(clippy::print_stdout, reason = "the test reads it")]
fn wait_for_end() -> Result<()> {
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    bail!("the test has ended")
}

/// Stops at each system call of `work` for the test.
fn traced(work: impl FnOnce() -> Result<()>) -> Result<()> {
    ptrace::traceme()?;
    raise(Signal::SIGSTOP)?;
    work()
}

fn part(name: &str, root: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ACT).arg(name).arg(root);
    Ok(command)
}

/// Runs a part once for each of its system calls, and kills it there: before the call at one stop,
/// after it at the next. `prepare` comes before each run, `check` after each.
fn kill_everywhere(
    name: &str,
    root: &Path,
    prepare: impl Fn() -> Result<()>,
    check: impl Fn() -> Result<()>,
) -> Result<()> {
    for stop in 0..MAX_STOPS {
        prepare()?;
        let is_over = kill_at(part(name, root)?, stop)?;
        check().with_context(|| format!("{name} killed at its stop {stop}"))?;
        if is_over {
            ensure!(stop > 50, "{name} has ended after {stop} stops");
            return Ok(());
        }
    }
    bail!("{name} makes more than {MAX_STOPS} system calls")
}

/// Kills the process at its stop of this number. Returns whether it ended before.
fn kill_at(mut command: Command, stop: u32) -> Result<bool> {
    let child = command.spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let mut left = stop;
    loop {
        match waitpid(pid, None)? {
            WaitStatus::Exited(_, 0) => return Ok(true),
            WaitStatus::Stopped(..) if left > 0 => {
                left -= 1;
                ptrace::syscall(pid, None)?;
            }
            WaitStatus::Stopped(..) => {
                kill(pid, Signal::SIGKILL)?;
                let status = waitpid(pid, None)?;
                ensure!(matches!(status, WaitStatus::Signaled(..)), "{status:?}");
                return Ok(false);
            }
            status => bail!("the process ended otherwise: {status:?}"),
        }
    }
}

/// An artifact is whole or not there, and one collection removes all remnants.
fn check_artifact(root: &Path) -> Result<()> {
    let store = store(root)?;
    let key = inputs().key();
    ensure!(store.try_lock(&key)?.is_some(), "the lock is still held");
    for entry in store.list()? {
        let verdict = store.verify(&entry.key)?;
        ensure!(
            verdict == Some(artifact_store::Verdict::Sound),
            "{verdict:?}"
        );
    }
    if let Some(artifact) = store.find(&key)? {
        ensure!(artifact.record().sha256 == Sha256Digest::of(CODE));
    }
    store.collect_garbage()?;
    for folder in ["drafts", "locks"] {
        let left = fs::read_dir(root.join("v1").join(folder))?.count();
        ensure!(left == 0, "{left} remnants in {folder}");
    }
    Ok(())
}

fn killed_publication(root: &Path) -> Result<()> {
    let prepare = || {
        if root.exists() {
            store(root)?.remove(&inputs().key())?;
        }
        Ok(())
    };
    kill_everywhere("publish", root, prepare, || check_artifact(root))?;
    ensure!(store(root)?.find(&inputs().key())?.is_some());
    Ok(())
}

fn killed_replacement(root: &Path) -> Result<()> {
    let record = root
        .join("v1/entries")
        .join(inputs().key().to_string())
        .join("record.json");
    let prepare = || {
        let store = store(root)?;
        if store.find(&inputs().key())?.is_none() {
            publish(root)?;
        }
        fs::write(&record, b"{}").context("damage the record")
    };
    let check = || {
        // A look-up removes the damaged one, if that is what is there.
        store(root)?.find(&inputs().key())?;
        check_artifact(root)
    };
    kill_everywhere("replace", root, prepare, check)?;
    ensure!(store(root)?.find(&inputs().key())?.is_some());
    Ok(())
}

fn killed_removal(root: &Path) -> Result<()> {
    let prepare = || {
        if store(root)?.find(&inputs().key())?.is_none() {
            publish(root)?;
        }
        Ok(())
    };
    kill_everywhere("remove", root, prepare, || check_artifact(root))?;
    ensure!(store(root)?.find(&inputs().key())?.is_none());
    Ok(())
}

fn killed_remembering(root: &Path) -> Result<()> {
    let key = inputs().key();
    let prepare = || {
        if root.exists() {
            store(root)?.remove(&key)?;
        }
        Ok(())
    };
    let check = || {
        check_artifact(root)?;
        if let Some(failure) = store(root)?.failure(&key)? {
            ensure!(failure.reason == "crashed");
        }
        Ok(())
    };
    kill_everywhere("fail", root, prepare, check)?;
    ensure!(store(root)?.failure(&key)?.is_some());
    Ok(())
}

fn single_flight(root: &Path) -> Result<()> {
    let children: Vec<Child> = (0..8)
        .map(|_| Ok(part("obtain", root)?.spawn()?))
        .collect::<Result<_>>()?;
    for mut child in children {
        let status = child.wait()?;
        ensure!(status.success(), "{status}");
    }
    let compiles = fs::read(root.with_file_name("compiles"))?.len();
    ensure!(compiles == 1, "compiled {compiles} times");
    Ok(())
}

/// A process that is killed when the test ends.
struct Ready(Child);

impl Ready {
    fn spawn(name: &str, root: &Path) -> Result<Self> {
        let mut command = part(name, root)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Self(command.spawn()?);
        let output = child.0.stdout.take().context("take its output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line == "ready\n", "{name} printed {line:?}");
        Ok(child)
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lock_ends(root: &Path) -> Result<()> {
    let store = store(root)?;
    let key = inputs().key();
    let holder = Ready::spawn("lock", root)?;
    ensure!(
        store.try_lock(&key)?.is_none(),
        "the lock of a living process is free"
    );
    let waits: PathBuf = root.to_owned();
    let waiter = std::thread::spawn(move || -> Result<()> {
        let _lock = self::store(&waits)?.lock(&inputs().key())?;
        Ok(())
    });
    drop(holder);
    match waiter.join() {
        Ok(result) => result?,
        Err(_) => bail!("the thread that waited for the lock panicked"),
    }
    ensure!(
        store.try_lock(&key)?.is_some(),
        "the lock of a dead process is held"
    );
    Ok(())
}

fn use_ends(root: &Path) -> Result<()> {
    publish(root)?;
    let store = store(root)?;
    let key = inputs().key();
    let user = Ready::spawn("use", root)?;
    ensure!(store.remove(&key)? == Removal::InUse);
    drop(user);
    ensure!(store.remove(&key)? == Removal::Removed);
    Ok(())
}
