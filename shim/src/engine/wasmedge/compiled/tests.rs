//! Guests that the real compiler has compiled, each in a process of its own: this executable again,
//! with the compiler's libraries to compile, and without them to run.

use std::env;
use std::ffi::CString;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use guest_sandbox::seccomp::FilterCache;
use guest_sandbox::{Refusal, WireFd, Workload as _};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use tempfile::TempDir;
use wasmedge_sys::ffi;

use crate::engine::Code;
use crate::engine::wasmedge::original::found_by_the_engine;
use crate::program::GuestProgram;
use crate::wasi::WasiContext;
use crate::workload::digest::Digest;
use crate::workload::{Bytes, Entrypoint, Form, GuestModule, START};

const ROLE: &str = "TEST_ROLE";
const FOLDER: &str = "TEST_FOLDER";
const SETTING: &str = "TEST_SETTING";
/// Exit codes of a process whose guest is refused, for either reason.
const GUEST_REFUSED: u8 = 77;
const CODE_REFUSED: u8 = 78;

/// A folder with a guest's module and its artifact.
struct Compiled(TempDir);

/// Optimization levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    O0,
    O2,
}

impl Compiled {
    fn new(text: &str, level: Level) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("module"), wat::parse_str(text).unwrap()).unwrap();
        let run = Path::new(env!("WASMEDGE_RUN_DIR")).canonicalize().unwrap();
        // The search path of the engine's library comes before that of this executable.
        let compilers = run.with_file_name("compile");
        let mut compile = role("compile", folder.path());
        let compile = compile
            .env("LD_LIBRARY_PATH", compilers)
            .env(SETTING, format!("{level:?}"));
        let output = compile.output().unwrap();
        assert!(output.status.success(), "{}", shown(&output));
        Self(folder)
    }

    fn artifact(&self) -> PathBuf {
        self.0.path().join("artifact")
    }

    /// Runs the guest from `function` on.
    fn run(&self, function: &str) -> Output {
        let mut run = role("run", self.0.path());
        run.env(SETTING, function).output().unwrap()
    }
}

fn role(role: &str, folder: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    let test = "engine::wasmedge::compiled::tests::process_of_another_test";
    command
        .args(["--exact", test, "--ignored", "--nocapture", "--quiet"])
        .env(ROLE, role)
        .env(FOLDER, folder);
    command
}

fn shown(output: &Output) -> String {
    format!(
        "{:?}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[track_caller]
fn check(output: &Output, code: u8, words: &str) {
    let text = shown(output);
    assert!(
        output.status.code() == Some(code.into()) && text.contains(words),
        "expected {code} and {words:?}: {text}"
    );
}

#[test]
#[ignore = "other tests start it"]
fn process_of_another_test() {
    // Also started by itself, with all ignored tests.
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else {
        return;
    };
    let setting = env::var(SETTING).unwrap();
    match env::var(ROLE).unwrap().as_str() {
        "compile" => compile(&folder, &setting),
        "run" => process_forker::exit(run(&folder, &setting)),
        "run within 2 GiB" => {
            let limit = Some(2 << 30);
            let limit = Rlimit {
                current: limit,
                maximum: limit,
            };
            setrlimit(Resource::As, limit).unwrap();
            process_forker::exit(run(&folder, &setting));
        }
        other => panic!("{other}"),
    }
}

#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one use of the compiler, whose contexts live as long as the process"
)]
fn compile(folder: &Path, level: &str) {
    let path = |name: &str| CString::new(folder.join(name).to_str().unwrap()).unwrap();
    let level = match level {
        "O0" => ffi::WasmEdge_CompilerOptimizationLevel_O0,
        _ => ffi::WasmEdge_CompilerOptimizationLevel_O2,
    };
    // SAFETY: contexts that were just made, and paths that outlive the calls; the process ends.
    let compiled = unsafe {
        let config = ffi::WasmEdge_ConfigureCreate();
        let native = ffi::WasmEdge_CompilerOutputFormat_Native;
        ffi::WasmEdge_ConfigureCompilerSetOutputFormat(config, native);
        ffi::WasmEdge_ConfigureCompilerSetOptimizationLevel(config, level);
        let compiler = ffi::WasmEdge_CompilerCreate(config);
        let (module, artifact) = (path("module"), path("artifact"));
        let result = ffi::WasmEdge_CompilerCompile(compiler, module.as_ptr(), artifact.as_ptr());
        ffi::WasmEdge_ResultOK(result)
    };
    assert!(compiled);
}

/// Returns `folder` as a guest's process gets it; attached if this user may not detach it.
fn detached(folder: &Path) -> OwnedFd {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, folder, clone).unwrap_or_else(|_| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(folder, flags, Mode::empty()).unwrap()
    })
}

fn run(folder: &Path, function: &str) -> u8 {
    let folder = detached(folder);
    let guest = GuestModule {
        bytes: Bytes::Memory(Arc::new(fs::File::open("/dev/null").unwrap())),
        size: 0,
        form: Form::Binary,
        origin: "guest".to_owned(),
        digest: Digest::of(b""),
        entrypoint: Entrypoint {
            path: "guest".to_owned(),
            function: function.to_owned(),
        },
    };
    let context = WasiContext {
        args: vec!["guest".to_owned()],
        env: Vec::new(),
        preopens: Vec::new(),
    };
    let code = Code::WasmEdge {
        folder: WireFd::new(folder),
    };
    let program = GuestProgram::new(&guest, code, context).unwrap();
    let filter = FilterCache::new().unwrap().engine();
    rustix::thread::set_no_new_privs(true).unwrap();
    filter.install().unwrap();
    let ready = program.prepare();
    let number = |path: &str| rustix::fs::stat(path).unwrap().st_ino;
    assert_eq!(number("."), number("/"));
    match ready {
        Ok(ready) => GuestProgram::run(ready),
        Err(Refusal::Guest(text)) => {
            eprintln!("{text}");
            GUEST_REFUSED
        }
        Err(Refusal::Code(text)) => {
            eprintln!("{text}");
            CODE_REFUSED
        }
    }
}

const EXIT: &str = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;

#[test]
fn compiled_guest_ends_as_an_interpreted_one() {
    let text = format!(
        r#"(module {EXIT}
            (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
            (memory (export "memory") 1 3) (table 2 funcref)
            (type $t (func))
            (func (export "_start") (call $exit (i32.const 42)))
            (func (export "returns"))
            (func (export "unreachable") unreachable)
            (func (export "divides") (drop (i32.div_s (i32.const 1) (i32.load (i32.const 0)))))
            (func (export "overflows") (drop (i32.div_s
                (i32.const 0x80000000) (i32.sub (i32.load (i32.const 0)) (i32.const 1)))))
            (func (export "reads") (drop (i64.load (i32.const 65530))))
            (func (export "writes far") (i32.store offset=0xfffffff0 (i32.const -1) (i32.const 1)))
            (func (export "calls null") (call_indirect (type $t) (i32.const 1)))
            (func (export "grows")
                (drop (memory.grow (i32.const 2)))
                (i32.store (i32.const 196600) (i32.const 7))
                (call $exit (i32.sub
                    (i32.load (i32.const 196600)) (memory.grow (i32.const 1)))))
            (func $deep (param i32) (result i32) (local i64 i64 i64 i64)
                (if (result i32) (local.get 0)
                    (then (i32.xor (i32.load (i32.const 0))
                        (call $deep (i32.sub (local.get 0) (i32.const 1)))))
                    (else (i32.const 9))))
            (func (export "fifty thousand deep") (call $exit (call $deep (i32.const 50000))))
            (func $endless (param i32) (result i32)
                (i32.store (i32.const 0) (local.get 0))
                (i32.rotl (call $endless (i32.add (local.get 0) (i32.const 1)))
                    (i32.load (i32.const 0))))
            (func (export "endless") (drop (call $endless (i32.const 0))))
            (func $host (param i32) (result i32)
                (drop (call $yield))
                (i32.rotl (call $host (i32.add (local.get 0) (i32.const 1)))
                    (call $yield)))
            (func (export "endless with host") (drop (call $host (i32.const 0)))))"#
    );
    for level in [Level::O0, Level::O2] {
        let guest = Compiled::new(&text, level);
        for (function, code, words) in [
            (START, 42, ""),
            ("returns", 0, ""),
            ("unreachable", 134, "guest: trap: unreachable"),
            ("divides", 134, "guest: trap: integer divide by zero"),
            ("overflows", 134, "guest: trap: integer overflow"),
            ("reads", 134, "guest: trap: out of bounds memory access"),
            (
                "writes far",
                134,
                "guest: trap: out of bounds memory access",
            ),
            ("calls null", 134, "guest: trap: uninitialized element"),
            ("grows", 8, ""),
            ("fifty thousand deep", 9, ""),
            (
                "endless",
                134,
                "guest: trap: call stack exhausted: the limit is 32 MiB",
            ),
            (
                "endless with host",
                134,
                "guest: trap: call stack exhausted",
            ),
        ] {
            check(&guest.run(function), code, words);
        }
    }
}

#[test]
fn compiled_start_function_that_recurses_endlessly_exhausts_the_stack() {
    let text = r#"(module (memory 1)
        (func $f (param i32) (result i32) (i32.rotl (call $f (i32.load (local.get 0)))
            (i32.load (i32.const 4))))
        (func $s (drop (call $f (i32.const 0)))) (start $s) (func (export "_start")))"#;
    let guest = Compiled::new(text, Level::O2);
    check(&guest.run(START), 134, "call stack exhausted");
}

#[test]
fn compiled_guest_that_can_never_run_is_refused_for_the_guest() {
    let text = r#"(module (import "env" "mystery" (func)) (func (export "_start"))
        (func (export "takes") (param i32)))"#;
    let guest = Compiled::new(text, Level::O0);
    check(
        &guest.run("none"),
        GUEST_REFUSED,
        "no function `none` (it exports: _start, takes)",
    );
    check(&guest.run("takes"), GUEST_REFUSED, "takes parameters");
    check(&guest.run(START), GUEST_REFUSED, "imports env.mystery");
}

/// Replaces the one place of `from` in the artifact.
fn replace(guest: &Compiled, from: &[u8], to: &[u8]) {
    let mut bytes = fs::read(guest.artifact()).unwrap();
    let places: Vec<usize> = (0..bytes.len() - from.len())
        .filter(|at| &bytes[*at..at + from.len()] == from)
        .collect();
    assert_eq!(places.len(), 1, "{places:?}");
    bytes[places[0]..places[0] + to.len()].copy_from_slice(to);
    fs::write(guest.artifact(), bytes).unwrap();
}

fn exits_with_42() -> Compiled {
    let text = format!(r#"(module {EXIT} (func (export "_start") (call $exit (i32.const 42))))"#);
    Compiled::new(&text, Level::O2)
}

#[test]
fn engine_asks_here_for_the_working_folder() {
    let own = super::getcwd as *const () as usize;
    assert_eq!(found_by_the_engine(c"getcwd"), own, "it is not exported");
}

#[test]
fn machine_code_runs_and_not_the_module_that_the_artifact_holds() {
    let guest = exits_with_42();
    // The end of the code section: i32.const 42, call 0, end.
    replace(
        &guest,
        &[0x41, 42, 0x10, 0, 0x0b],
        &[0x41, 43, 0x10, 0, 0x0b],
    );
    check(&guest.run(START), 42, "");
}

#[test]
fn artifact_that_is_not_the_engines_is_refused_and_its_module_is_not_interpreted() {
    let guest = exits_with_42();
    let run = |bytes: &[u8]| {
        fs::write(guest.artifact(), bytes).unwrap();
        guest.run(START)
    };
    let whole = fs::read(guest.artifact()).unwrap();
    let module = fs::read(guest.0.path().join("module")).unwrap();
    // A custom section named `wasmedge`, where the universal form has machine code.
    let universal = [&module[..], b"\0\x0d\x08wasmedgejunk"].concat();
    let mut other_machine = whole.clone();
    other_machine[18] = 0xf3;
    for bytes in [&b""[..], b"text", &module, &universal, &other_machine] {
        check(&run(bytes), CODE_REFUSED, "its compiled code does not load");
    }
    let library = Path::new(env!("WASMEDGE_RUN_DIR")).join("libz.so.1");
    check(
        &run(&fs::read(library).unwrap()),
        CODE_REFUSED,
        "not one of this engine",
    );
    fs::remove_file(guest.artifact()).unwrap();
    check(&guest.run(START), GUEST_REFUSED, "open the compiled code");
}

#[test]
fn artifact_of_another_version_is_refused() {
    let guest = exits_with_42();
    // The number follows the names of the symbols, aligned; the module comes after it.
    let bytes = fs::read(guest.artifact()).unwrap();
    let module = bytes
        .windows(8)
        .position(|at| at == b"\0asm\x01\0\0\0")
        .unwrap();
    let version = (module - 32..module)
        .find(|at| bytes[*at..at + 4] == super::VERSION.to_le_bytes())
        .unwrap();
    let mut changed = bytes;
    changed[version] = 1;
    fs::write(guest.artifact(), changed).unwrap();
    check(
        &guest.run(START),
        CODE_REFUSED,
        "it has version 1 of the engine's format",
    );
}

#[test]
fn limit_of_the_address_space_is_named_and_the_artifact_is_not_blamed() {
    let text = r#"(module (memory 1) (func (export "_start"))
        (func (export "reads") (drop (i64.load (i32.const 65530)))))"#;
    let guest = Compiled::new(text, Level::O0);
    for function in [START, "reads"] {
        let mut limited = role("run within 2 GiB", guest.0.path());
        let output = limited.env(SETTING, function).output().unwrap();
        check(&output, 126, "RLIMIT_AS allows 2147483648 bytes");
    }
}

#[test]
fn busy_guest_that_gets_the_signal_of_a_fault_ends_with_its_number() {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\08\00\00\00\06\00\00\00ready\0a")
        (func (export "_start")
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
            (loop (br 0))))"#;
    let guest = Compiled::new(text, Level::O2);
    let mut busy = role("run", guest.0.path());
    let mut busy = busy
        .env(SETTING, START)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(busy.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"));
    let pid = rustix::process::Pid::from_child(&busy);
    rustix::process::kill_process(pid, Signal::SEGV).unwrap();
    assert_eq!(busy.wait().unwrap().code(), Some(139));
}
