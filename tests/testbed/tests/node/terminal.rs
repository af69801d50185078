//! Containers with a terminal, used through `ctr` on a pseudo-terminal, as by a user.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::pty::OpenptFlags;
use rustix::termios::{Winsize, tcgetpgrp, tcsetwinsize};
use testbed::wait;

use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, tests};

tests![
    typed_input_is_echoed_and_answered,
    terminal_size_and_its_changes_reach_a_native_program,
    typed_end_of_input_ends_a_guest,
    typed_interrupt_ends_a_guest,
    a_guest_without_a_terminal_has_none,
    an_exec_process_has_a_terminal_of_its_own,
];

/// A program on a pseudo-terminal on which this process types.
struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(command: &Command) -> Result<Self> {
        let master =
            rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
                .context("make a terminal")?;
        rustix::pty::grantpt(&master).context("make a terminal")?;
        rustix::pty::unlockpt(&master).context("make a terminal")?;
        let name = rustix::pty::ptsname(&master, Vec::new()).context("name the terminal")?;
        let name = name.to_str().context("the terminal's name is not UTF-8")?;
        tcsetwinsize(master.as_fd(), size(80, 24)).context("size the terminal")?;
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name)
            .with_context(|| format!("open {name}"))?;
        // As the terminal's controlling process group: it then gets the signals of typed keys and
        // of a change of size.
        let mut own = Command::new("setsid");
        own.args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args());
        let copy = || slave.try_clone().context("open the terminal again");
        let child = own
            .stdin(Stdio::from(copy()?))
            .stdout(Stdio::from(copy()?))
            .stderr(Stdio::from(slave))
            .spawn()
            .context("start ctr")?;
        let keyboard = File::from(master);
        let mut reader = keyboard.try_clone().context("open the terminal again")?;
        let screen = Arc::new(Mutex::new(Vec::new()));
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // It ends with an error when all descriptors of the other side are closed.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                shown
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(&buffer[..count]);
            }
        });
        Ok(Self {
            child,
            keyboard,
            screen,
        })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap_or_else(PoisonError::into_inner))
            .into_owned()
    }

    fn type_text(&mut self, text: &str) -> Result<()> {
        self.keyboard.write_all(text.as_bytes()).context("type")
    }

    /// Changes the size, and waits until the program shows it. The kernel signals the change once,
    /// and a `ctr` that has just started its program has no handler yet, so it gets more signals.
    fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        tcsetwinsize(self.keyboard.as_fd(), size(columns, rows))
            .context("change the terminal's size")?;
        let text = format!("{columns} columns, {rows} rows");
        let is_shown = || {
            if self.text().contains(&text) {
                return Ok(Some(()));
            }
            let group = tcgetpgrp(&self.keyboard).context("read the terminal's process group")?;
            killpg(Pid::from_raw(group.as_raw_pid()), Signal::SIGWINCH)
                .context("signal the change of size")?;
            Ok(None)
        };
        wait::until(
            format_args!("the terminal to show {text:?}"),
            SETTLE_TIMEOUT,
            is_shown,
            || format!("{:?}", self.text()),
        )
    }

    fn expect_text(&self, text: &str) -> Result<()> {
        wait::until(
            format_args!("the terminal to show {text:?}"),
            SETTLE_TIMEOUT,
            || Ok(self.text().contains(text).then_some(())),
            || format!("{:?}", self.text()),
        )
    }

    /// Waits for its exit, and returns its exit code.
    fn wait_for_exit(mut self) -> Result<i32> {
        let screen = Arc::clone(&self.screen);
        let shown = move || {
            String::from_utf8_lossy(&screen.lock().unwrap_or_else(PoisonError::into_inner))
                .into_owned()
        };
        let status = wait::until(
            "ctr to end",
            SETTLE_TIMEOUT,
            || self.child.try_wait().context("read the status of ctr"),
            shown,
        )?;
        status.code().context("ctr was killed")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A failed test leaves it running; the kill of an ended one fails harmlessly.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn typed_input_is_echoed_and_answered(node: &Node) -> Result<Verdict> {
    let container = node.probe(&["repl"])?.flag("--tty");
    let id = container.id().to_owned();
    let mut terminal = Terminal::start(&container.run_command()?)?;
    terminal.expect_text("> ")?;
    terminal.type_text("one\r")?;
    // The terminal echoes typed text. `ctr` does not stop its user's terminal from adding a
    // carriage return; kubectl does.
    terminal.expect_text("> one\r\r\nyou said one\r\r\n> ")?;
    terminal.type_text("two words\r")?;
    terminal.expect_text("> two words\r\r\nyou said two words\r\r\n> ")?;
    terminal.type_text("quit\r")?;
    let code = terminal.wait_for_exit()?;
    ensure!(code == 0, "exit code {code}");
    node.machine().nothing_left(&id)?;
    Ok(Verdict::Holds)
}

fn terminal_size_and_its_changes_reach_a_native_program(node: &Node) -> Result<Verdict> {
    let mut terminal = Terminal::start(&node.native(&["size"])?.flag("--tty").run_command()?)?;
    terminal.expect_text("80 columns, 24 rows")?;
    for (columns, rows) in [(132, 50), (40, 10)] {
        terminal.resize(columns, rows)?;
    }
    terminal.type_text("x\r")?;
    let code = terminal.wait_for_exit()?;
    ensure!(code == 0, "exit code {code}");
    Ok(Verdict::Holds)
}

fn typed_end_of_input_ends_a_guest(node: &Node) -> Result<Verdict> {
    let mut terminal = Terminal::start(&node.probe(&["repl"])?.flag("--tty").run_command()?)?;
    terminal.expect_text("> ")?;
    terminal.type_text("\u{4}")?;
    let code = terminal.wait_for_exit()?;
    ensure!(code == 0, "exit code {code}");
    Ok(Verdict::Holds)
}

fn typed_interrupt_ends_a_guest(node: &Node) -> Result<Verdict> {
    let mut terminal = Terminal::start(&node.probe(&["repl"])?.flag("--tty").run_command()?)?;
    terminal.expect_text("> ")?;
    terminal.type_text("\u{3}")?;
    let code = terminal.wait_for_exit()?;
    ensure!(code == 130, "exit code {code}");
    Ok(Verdict::Holds)
}

fn a_guest_without_a_terminal_has_none(node: &Node) -> Result<Verdict> {
    let finished = node.native(&["size"])?.run()?;
    ensure!(
        finished.code == 1 && finished.stdout.is_empty(),
        "{}: {}",
        finished.code,
        finished.text()
    );
    Ok(Verdict::Holds)
}

fn an_exec_process_has_a_terminal_of_its_own(node: &Node) -> Result<Verdict> {
    let task = node.mixed(&["sleep", "600"])?.start()?;
    for (args, prompt) in [
        (&["/app.wasm", "repl"][..], "> "),
        (&["/native", "size"], "80 columns, 24 rows"),
    ] {
        let exec = task.exec(&node.id("tty"), args).flag("--tty");
        let mut terminal = Terminal::start(&exec.command())?;
        terminal.expect_text(prompt)?;
        if prompt == "> " {
            terminal.type_text("hello\r")?;
            terminal.expect_text("> hello\r\r\nyou said hello\r\r\n> ")?;
        } else {
            terminal.resize(100, 30)?;
        }
        terminal.type_text("quit\r")?;
        let code = terminal.wait_for_exit()?;
        ensure!(code == 0, "{args:?}: exit code {code}");
    }
    ensure!(
        task.status()? == "RUNNING",
        "the container is {}",
        task.status()?
    );
    task.kill("SIGKILL")?;
    task.wait(SETTLE_TIMEOUT)?;
    task.delete()?;
    Ok(Verdict::Holds)
}
