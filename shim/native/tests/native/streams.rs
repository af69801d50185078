//! Pipes and terminals.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, ensure};
use native_container::Stdio;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::json;

use crate::bundle::{Bundle, end, exec, kill, pipe, status, until_it_runs, wait};

pub(crate) fn pipes() -> Result<()> {
    let bundle = Bundle::new(&["env"])?;
    let (stdin, _keep) = std::io::pipe()?;
    let (stdout, printed) = pipe()?;
    let (stderr, complained) = pipe()?;
    let container = bundle.create_with(Stdio {
        stdin: Some(stdin.into()),
        stdout: Some(stdout),
        stderr: Some(stderr),
        terminal: None,
    })?;
    ensure!(
        fs::read_link(format!("/proc/{}/fd/0", container.pid()))?
            .to_string_lossy()
            .starts_with("pipe:")
    );
    container.start()?;
    ensure!(printed()? == "HOME=/\nNAME=value\nPATH=/bin\n");
    ensure!(complained()?.is_empty());
    ensure!(wait(container.pidfd())? == 0);
    container.delete()?;
    bundle.nothing_is_left()
}

/// Our side, and the process's.
fn new_terminal() -> Result<(File, File)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let path = ptsname(&ours, Vec::new())?.into_string()?;
    let theirs = rustix::fs::open(
        path,
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    Ok((ours.into(), theirs.into()))
}

/// The number of the terminal that `pid` is controlled by.
fn controlling(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').context("a name")?.1;
    Ok(after_name
        .split_whitespace()
        .nth(4)
        .context("tty_nr")?
        .parse()?)
}

pub(crate) fn terminal() -> Result<()> {
    let mut bundle = Bundle::new(&["sleep"])?;
    bundle.config["process"]["terminal"] = json!(true);
    let (ours, theirs) = new_terminal()?;
    let device = theirs.metadata()?.rdev();
    let container = bundle.create_with(Stdio {
        terminal: Some(theirs.into()),
        ..Stdio::default()
    })?;
    container.start()?;
    let mut line = String::new();
    BufReader::new(ours.try_clone()?).read_line(&mut line)?;
    ensure!(line == "sleeping\r\n", "{line:?}");
    ensure!(
        controlling(container.pid())? == device,
        "{} is not {device}",
        controlling(container.pid())?
    );
    let console = fs::metadata(format!("/proc/{}/root/dev/console", container.pid()))?;
    ensure!(console.rdev() == device, "the console is another device");

    let (ours_too, theirs) = new_terminal()?;
    let device = theirs.metadata()?.rdev();
    let stdio = Stdio {
        terminal: Some(theirs.into()),
        ..Stdio::default()
    };
    let second = exec(&bundle, &container, &json!({"terminal": true}), stdio)?.start()?;
    until_it_runs(second.pid())?;
    ensure!(controlling(second.pid())? == device);
    drop(ours_too);
    // Its terminal hung up.
    ensure!(wait(second.pidfd())? == 129);
    drop(ours);
    end(&container)?;
    bundle.nothing_is_left()
}

pub(crate) fn owner() -> Result<()> {
    let mut bundle = Bundle::new(&["sleep"])?;
    bundle.config["process"]["user"]["uid"] = json!(1000);
    let (stdout, _printed) = pipe()?;
    let container = bundle.create_with(Stdio {
        stdout: Some(stdout),
        ..Stdio::default()
    })?;
    container.start()?;
    until_it_runs(container.pid())?;
    ensure!(status(container.pid(), "Uid")?.starts_with("1000"));
    ensure!(fs::metadata(format!("/proc/{}/fd/1", container.pid()))?.uid() == 1000);
    ensure!(
        fs::metadata("/dev/null")?.uid() == 0,
        "what is not the container's was given away"
    );
    let (stdout, _printed) = pipe()?;
    let second = exec(
        &bundle,
        &container,
        &json!({}),
        Stdio {
            stdout: Some(stdout),
            ..Stdio::default()
        },
    )?
    .start()?;
    ensure!(fs::metadata(format!("/proc/{}/fd/1", second.pid()))?.uid() == 1000);
    kill(second.pidfd())?;
    end(&container)
}
