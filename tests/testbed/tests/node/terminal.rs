//! Containers with a terminal, used through `ctr` on a terminal of our own, as a person would.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use rustix::pty::OpenptFlags;
use rustix::termios::{Winsize, tcsetwinsize};
use testbed::wait;

use crate::machine::LIMIT;
use crate::node::{Node, Verdict, tests};

tests![
    what_is_typed_is_echoed_and_answered,
    the_size_of_the_terminal_reaches_a_native_program_and_follows_it,
    the_end_of_input_that_is_typed_ends_a_guest,
    an_interrupt_that_is_typed_ends_a_guest,
    a_guest_without_a_terminal_has_none,
    an_exec_process_has_a_terminal_of_its_own,
];

/// A program on a terminal that this process types on.
struct Typist {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Typist {
    fn start(command: &Command) -> Result<Self> {
        let master =
            rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
                .context("make a terminal")?;
        rustix::pty::grantpt(&master).context("make a terminal")?;
        rustix::pty::unlockpt(&master).context("make a terminal")?;
        let name = rustix::pty::ptsname(&master, Vec::new()).context("name the terminal")?;
        let name = name.to_str().context("a terminal whose name is text")?;
        tcsetwinsize(master.as_fd(), size(80, 24)).context("size the terminal")?;
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name)
            .with_context(|| format!("open {name}"))?;
        // As the terminal's own: then it gets the signals that are typed, and that of a change of
        // size.
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
            // It ends with an error when nobody has the other side open any more.
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

    fn types(&mut self, text: &str) -> Result<()> {
        self.keyboard.write_all(text.as_bytes()).context("type")
    }

    fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        tcsetwinsize(self.keyboard.as_fd(), size(columns, rows))
            .context("change the terminal's size")
    }

    fn shows(&self, text: &str) -> Result<()> {
        wait::until(
            format_args!("the terminal to show {text:?}"),
            LIMIT,
            || Ok(self.text().contains(text).then_some(())),
            || format!("{:?}", self.text()),
        )
    }

    /// Waits for its end, and gives its exit code.
    fn ends(mut self) -> Result<i32> {
        let screen = Arc::clone(&self.screen);
        let shown = move || {
            String::from_utf8_lossy(&screen.lock().unwrap_or_else(PoisonError::into_inner))
                .into_owned()
        };
        let status = wait::until(
            "ctr to end",
            LIMIT,
            || self.child.try_wait().context("ask for the status of ctr"),
            shown,
        )?;
        status.code().context("ctr was killed")
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        // A failed test leaves it; one that has ended cannot be killed.
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

fn what_is_typed_is_echoed_and_answered(node: &Node) -> Result<Verdict> {
    let container = node.probe(&["repl"])?.flag("--tty");
    let id = container.id().to_owned();
    let mut typist = Typist::start(&container.run_command()?)?;
    typist.shows("> ")?;
    typist.types("one\r")?;
    // The terminal echoes what is typed. `ctr` leaves its user's terminal to add a carriage return
    // of its own; kubectl does not.
    typist.shows("> one\r\r\nyou said one\r\r\n> ")?;
    typist.types("two words\r")?;
    typist.shows("> two words\r\r\nyou said two words\r\r\n> ")?;
    typist.types("quit\r")?;
    let code = typist.ends()?;
    ensure!(code == 0, "exit code {code}");
    node.machine().nothing_left(&id)?;
    Ok(Verdict::Holds)
}

fn the_size_of_the_terminal_reaches_a_native_program_and_follows_it(
    node: &Node,
) -> Result<Verdict> {
    let mut typist = Typist::start(&node.native(&["size"])?.flag("--tty").run_command()?)?;
    typist.shows("80 columns, 24 rows")?;
    for (columns, rows) in [(132, 50), (40, 10)] {
        typist.resize(columns, rows)?;
        typist.shows(&format!("{columns} columns, {rows} rows"))?;
    }
    typist.types("x\r")?;
    let code = typist.ends()?;
    ensure!(code == 0, "exit code {code}");
    Ok(Verdict::Holds)
}

fn the_end_of_input_that_is_typed_ends_a_guest(node: &Node) -> Result<Verdict> {
    let mut typist = Typist::start(&node.probe(&["repl"])?.flag("--tty").run_command()?)?;
    typist.shows("> ")?;
    typist.types("\u{4}")?;
    let code = typist.ends()?;
    ensure!(code == 0, "exit code {code}");
    Ok(Verdict::Holds)
}

fn an_interrupt_that_is_typed_ends_a_guest(node: &Node) -> Result<Verdict> {
    let mut typist = Typist::start(&node.probe(&["repl"])?.flag("--tty").run_command()?)?;
    typist.shows("> ")?;
    typist.types("\u{3}")?;
    let code = typist.ends()?;
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
    for (words, prompt) in [
        (&["/app.wasm", "repl"][..], "> "),
        (&["/native", "size"], "80 columns, 24 rows"),
    ] {
        let exec = task.exec(&node.id("tty"), words).flag("--tty");
        let mut typist = Typist::start(&exec.command())?;
        typist.shows(prompt)?;
        if prompt == "> " {
            typist.types("hello\r")?;
            typist.shows("> hello\r\r\nyou said hello\r\r\n> ")?;
        } else {
            typist.resize(100, 30)?;
            typist.shows("100 columns, 30 rows")?;
        }
        typist.types("quit\r")?;
        let code = typist.ends()?;
        ensure!(code == 0, "{words:?}: exit code {code}");
    }
    ensure!(
        task.status()? == "RUNNING",
        "the container is {}",
        task.status()?
    );
    task.kill("SIGKILL")?;
    task.wait(LIMIT)?;
    task.delete()?;
    Ok(Verdict::Holds)
}
