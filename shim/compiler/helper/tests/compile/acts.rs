//! This program as a helper that does what hostile bytes could make one do: the module says what.
#![expect(
    clippy::print_stderr,
    reason = "what a helper prints is part of the reason of its failure"
)]

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use compile_helper::{Refusal, Wasm, write_artifact};

/// The section of a module that names the act.
const SECTION: &str = "act";

/// Returns a module that has a helper do this.
pub(crate) fn module(act: &str) -> Vec<u8> {
    wat::parse_str(format!("(module (@custom {SECTION:?} {act:?}))")).expect("it is valid")
}

/// This program.
pub(crate) fn program() -> PathBuf {
    std::env::current_exe().expect("the kernel knows the path of this program")
}

/// Acts as a helper, if this process is one: a host gives it no environment.
pub(crate) fn act_as_helper() -> Option<ExitCode> {
    std::env::vars_os()
        .next()
        .is_none()
        .then(|| compile_helper::run(act))
}

fn act(wasm: &Wasm<'_>) -> Result<(), Refusal> {
    match name_of_act(wasm.bytes).as_str() {
        "abort" => {
            eprintln!("a bug in a compiler");
            std::process::abort()
        }
        "panic" => std::panic::resume_unwind(Box::new(())),
        "overflow" => {
            recurse(0);
            Ok(())
        }
        "loop" => loop {
            std::hint::black_box(0);
        },
        "wait" => loop {
            std::thread::sleep(Duration::from_mins(1));
        },
        "memory" => {
            let mut all = Vec::new();
            loop {
                all.push(vec![1_u8; 1 << 20]);
                std::hint::black_box(&all);
            }
        }
        "reserve" => {
            let all = vec![1_u8; 1 << 34];
            Err(Refusal::Module(format!(
                "{} bytes",
                std::hint::black_box(all).len()
            )))
        }
        "output" => write_artifact(&vec![1; 2 << 20]),
        "print" => {
            for _ in 0..1000 {
                // Refused when the pipe is full.
                let _ = std::io::stderr().write_all(&[b'x'; 1000]);
            }
            let _ = std::io::stdout().write_all(&[b'x'; 1000]);
            write_artifact(b"code")
        }
        "probe" => Err(Refusal::Module(probe().join(", "))),
        act => Err(Refusal::Module(format!("there is no act {act:?}"))),
    }
}

#[expect(unconditional_recursion, reason = "it is to exhaust the stack")]
fn recurse(depth: u64) -> u64 {
    std::hint::black_box([depth; 64]).len() as u64 + recurse(depth + 1)
}

fn name_of_act(module: &[u8]) -> String {
    let text = String::from_utf8_lossy(module);
    let (_, act) = text.rsplit_once(SECTION).unwrap_or_default();
    act.to_owned()
}

/// What a helper must not be able to do; lists what it could.
fn probe() -> Vec<String> {
    let mut done = Vec::new();
    let mut attempt = |what: &str, succeeded: bool| {
        if succeeded {
            done.push(what.to_owned());
        }
    };
    for path in [
        "/etc/passwd",
        "../../etc/passwd",
        "/proc/self/status",
        "/dev/null",
        "/sys",
    ] {
        attempt(path, fs::metadata(path).is_ok());
    }
    attempt(
        "an internet socket",
        std::net::UdpSocket::bind("127.0.0.1:0").is_ok(),
    );
    attempt(
        "a socket",
        std::os::unix::net::UnixDatagram::unbound().is_ok(),
    );
    attempt("another program", Command::new("/bin/true").spawn().is_ok());
    attempt("another user", rustix::process::geteuid().is_root());
    attempt(
        "the parent's number",
        rustix::process::getpid().as_raw_pid() != 1,
    );
    attempt("a folder", fs::create_dir("folder").is_ok());
    attempt("a link", std::os::unix::fs::symlink("/etc", "link").is_ok());
    attempt("a hard link", fs::hard_link("../x", "link").is_ok());
    // Threads are allowed: a linker starts some.
    if std::thread::spawn(|| ()).join().is_err() {
        attempt("no thread", true);
    }
    // The folder of the draft is what it has.
    if fs::write("/scratch", "x")
        .and_then(|()| fs::remove_file("scratch"))
        .is_err()
    {
        attempt("no file in the draft", true);
    }
    attempt("nothing", true);
    done
}
