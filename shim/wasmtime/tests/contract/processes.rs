//! Guests as processes: one thread each, randomness of their own, clocks.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p2::bindings::random::random::Host as _;

use crate::Test;
use crate::guest::{Guest, Streams, World, with_wasi};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("guest_has_one_thread", one_thread),
    ("guests_of_one_zygote_get_different_randomness", randomness),
    (
        "randomness_of_the_library_is_shared_by_forks",
        shared_randomness,
    ),
    ("large_random_request_is_filled", large_randomness),
    ("clocks_are_those_of_the_kernel", clocks),
];

/// Uses files, random numbers, a timer and its output, then waits for its input.
const BUSY: &str = r#"(data (i32.const 1024) "busy")
  (func (export "_start")
    (drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 4) (i32.const 1)
      (i64.const 0x1fffffff) (i64.const 0x1fffffff) (i32.const 0) (i32.const 80)))
    (drop (call $write (i32.load (i32.const 80)) (i32.const 1024) (i32.const 4)))
    (i32.store (i32.const 84) (i32.const 4096))
    (i32.store (i32.const 88) (i32.const 4))
    (drop (call $fd_pread (i32.load (i32.const 80)) (i32.const 84) (i32.const 1) (i64.const 0) (i32.const 92)))
    (drop (call $fd_readdir (i32.const 3) (i32.const 8192) (i32.const 4096) (i64.const 0) (i32.const 92)))
    (drop (call $random_get (i32.const 8192) (i32.const 64)))
    ;; The monotonic clock in 1 ms, and writing, to which the file is always ready.
    (i32.store8 (i32.const 2056) (i32.const 0))
    (i32.store (i32.const 2064) (i32.const 1))
    (i64.store (i32.const 2072) (i64.const 1000000))
    (i32.store8 (i32.const 2104) (i32.const 2))
    (i32.store (i32.const 2112) (i32.load (i32.const 80)))
    (drop (call $poll_oneoff (i32.const 2048) (i32.const 4096) (i32.const 2) (i32.const 92)))
    (drop (call $poll_oneoff (i32.const 2048) (i32.const 4096) (i32.const 1) (i32.const 92)))
    (call $print (i32.const 1024) (i32.const 4))
    (drop (call $fd_read (i32.const 0) (i32.const 84) (i32.const 1) (i32.const 92))))"#;

fn one_thread(world: &World) -> Result<()> {
    let guest = Guest::text(&with_wasi(BUSY))?;
    let (stdin, mut input) = std::io::pipe()?;
    let (mut output, stdout) = std::io::pipe()?;
    let streams = Streams {
        stdin: stdin.into(),
        stdout: stdout.into(),
    };
    let running = world.start(&guest, streams)?;
    let mut busy = [0; 4];
    output.read_exact(&mut busy)?;
    let threads = std::fs::read_dir(format!("/proc/{}/task", running.pid()))?.count();
    input.write_all(b"x")?;
    running.finish()?.output(0)?;
    ensure!(threads == 1, "{threads} threads");
    Ok(())
}

/// Writes 32 random bytes.
const RANDOM: &str = r#"(func (export "_start")
    (if (call $random_get (i32.const 1024) (i32.const 32)) (then unreachable))
    (call $print (i32.const 1024) (i32.const 32)))"#;

fn randomness(world: &World) -> Result<()> {
    let guest = Guest::text(&with_wasi(RANDOM))?;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let bytes = world.run(&guest)?.stdout;
        ensure!(
            bytes.len() == 32 && !seen.contains(&bytes),
            "{bytes:?} of {seen:?}"
        );
        seen.push(bytes);
    }
    Ok(())
}

/// The reason for the generator of our own: the test above must be able to fail.
fn shared_randomness(world: &World) -> Result<()> {
    fn library(control: OwnedFd) -> u8 {
        let mut context = WasiCtxBuilder::new().build();
        let bytes = context.random().get_random_bytes(32).unwrap_or_default();
        u8::from(UnixStream::from(control).write_all(&bytes).is_err())
    }
    let mut bytes = [Vec::new(), Vec::new()];
    for bytes in &mut bytes {
        world.spawn(library)?.1.read_to_end(bytes)?;
    }
    let [first, second] = bytes;
    ensure!(first.len() == 32 && first == second, "{first:?} {second:?}");
    Ok(())
}

fn large_randomness(world: &World) -> Result<()> {
    let text = with_wasi(
        r#"(func (export "_start")
             (drop (memory.grow (i32.const 1200)))
             (if (call $random_get (i32.const 1024) (i32.const 70000000)) (then unreachable))
             (call $proc_exit (i64.eqz (i64.load (i32.const 70000000)))))"#,
    );
    world.run(&Guest::text(&text)?)?.output(0)?;
    Ok(())
}

fn clocks(world: &World) -> Result<()> {
    let text = with_wasi(
        r#"(func (export "_start")
             (if (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 1024)) (then unreachable))
             (call $print (i32.const 1024) (i32.const 8))
             (if (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 1024)) (then unreachable))
             (if (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 1032)) (then unreachable))
             (if (i64.lt_u (i64.load (i32.const 1032)) (i64.load (i32.const 1024))) (then unreachable)))"#,
    );
    let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let finished = world.run(&Guest::text(&text)?)?;
    let bytes = finished.stdout.first_chunk::<8>().context("eight bytes")?;
    let then = Duration::from_nanos(u64::from_le_bytes(*bytes));
    let after = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    ensure!(
        before <= then && then <= after,
        "{before:?} {then:?} {after:?}"
    );
    Ok(())
}
