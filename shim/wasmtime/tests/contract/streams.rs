//! Standard streams, and waiting for them.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;

use anyhow::{Result, ensure};

use crate::Test;
use crate::guest::{Guest, Streams, World, with_wasi};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("hello_arrives_on_standard_output", hello),
    (
        "input_is_read_to_its_end_from_pipes_files_and_devices",
        input,
    ),
    ("output_beyond_a_pipes_capacity_arrives_whole", large_output),
    (
        "reader_that_is_gone_is_an_error_and_not_the_end",
        broken_pipe,
    ),
    ("terminal_is_a_terminal_and_a_pipe_is_not", terminal),
    ("guest_waits_for_its_input_and_a_time_together", poll),
    ("stream_that_does_not_block_is_waited_for", non_blocking),
];

/// Copies standard input to standard output, then writes the error of the last read.
const CAT: &str = r#"(func (export "_start")
    (local $error i32)
    (loop $more
      (i32.store (i32.const 80) (i32.const 65536))
      (i32.store (i32.const 84) (i32.const 100000))
      (local.set $error (call $fd_read (i32.const 0) (i32.const 80) (i32.const 1) (i32.const 88)))
      (if (i32.and (i32.eqz (local.get $error)) (i32.ne (i32.load (i32.const 88)) (i32.const 0)))
        (then
          (call $print (i32.const 65536) (i32.load (i32.const 88)))
          (br $more))))
    (call $number (local.get $error)))"#;

/// WASI's number of an error.
const EPIPE: u32 = 64;

fn hello(world: &World) -> Result<()> {
    let output = world
        .run(&Guest::binary(&test_guests::HELLO.bytes())?)?
        .output(0)?;
    ensure!(output == "hello from wasm\n", "{output}");
    Ok(())
}

fn input(world: &World) -> Result<()> {
    let cat = Guest::text(&with_wasi(CAT))?;
    let bytes = String::from_utf8(test_guests::pattern(300_000))?;
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes.as_bytes())?;
    file.rewind()?;
    let output = world.run_with_input(&cat, file.into())?.output(0)?;
    ensure!(output == format!("{bytes}0\n"), "{} bytes", output.len());

    let (reader, writer) = std::io::pipe()?;
    let to_write = bytes.clone();
    let writing = std::thread::spawn(move || {
        let mut writer = writer;
        writer.write_all(to_write.as_bytes())
    });
    let output = world.run_with_input(&cat, reader.into())?.output(0)?;
    ensure!(output == format!("{bytes}0\n"), "{} bytes", output.len());
    writing.join().expect("it does not panic")?;

    let output = world
        .run_with_input(&cat, File::open("/dev/null")?.into())?
        .output(0)?;
    ensure!(output == "0\n", "{output}");
    Ok(())
}

fn large_output(world: &World) -> Result<()> {
    let (mut output, stdout) = std::io::pipe()?;
    let big = Guest::binary(&test_guests::BIG_STDOUT.bytes())?;
    let running = world.start(&big, streams(File::open("/dev/null")?.into(), stdout))?;
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes)?;
    running.finish()?.output(0)?;
    ensure!(bytes == test_guests::pattern(test_guests::BIG_STDOUT_LENGTH));
    Ok(())
}

fn broken_pipe(world: &World) -> Result<()> {
    let guest = Guest::text(&with_wasi(
        r#"(func (export "_start")
             (call $proc_exit (call $write (i32.const 1) (i32.const 0) (i32.const 1))))"#,
    ))?;
    let (output, stdout) = std::io::pipe()?;
    drop(output);
    let running = world.start(&guest, streams(File::open("/dev/null")?.into(), stdout))?;
    running.finish()?.output(EPIPE)?;
    Ok(())
}

fn terminal(world: &World) -> Result<()> {
    // The file type of each stream: 2 is a character device.
    let types = Guest::text(&with_wasi(
        r#"(func (export "_start")
             (drop (call $fd_fdstat_get (i32.const 0) (i32.const 80)))
             (drop (call $fd_fdstat_get (i32.const 1) (i32.const 120)))
             (call $proc_exit (i32.add
               (i32.mul (i32.const 10) (i32.load8_u (i32.const 80))) (i32.load8_u (i32.const 120)))))"#,
    ))?;
    let (master, slave) = pseudo_terminal()?;
    let (_output, stdout) = std::io::pipe()?;
    let running = world.start(&types, streams(slave.try_clone()?, stdout))?;
    running.finish()?.output(20)?;

    // A line of the terminal arrives, and the output is seen there.
    let cat = Guest::text(&with_wasi(CAT))?;
    let both = Streams {
        stdin: slave.try_clone()?,
        stdout: slave,
    };
    let running = world.start(&cat, both)?;
    let mut terminal = master;
    terminal.write_all(b"line\n\x04")?;
    running.finish()?.output(0)?;
    let mut seen = [0; 64];
    let count = terminal.read(&mut seen)?;
    let seen = String::from_utf8_lossy(&seen[..count]);
    ensure!(seen.contains("line\r\n"), "{seen:?}");
    Ok(())
}

/// Waits for standard input or 30 ms, forty times at most: writes `.` for each time that passed,
/// and what it read.
const POLL: &str = r#"(func (export "_start")
    (local $turns i32)
    (loop $again
      (local.set $turns (i32.add (local.get $turns) (i32.const 1)))
      ;; Two subscriptions of 48 bytes: the monotonic clock with a timeout, and reading.
      (i64.store (i32.const 1024) (i64.const 1))
      (i32.store8 (i32.const 1032) (i32.const 0))
      (i32.store (i32.const 1040) (i32.const 1))
      (i64.store (i32.const 1048) (i64.const 30000000))
      (i64.store (i32.const 1056) (i64.const 0))
      (i32.store16 (i32.const 1064) (i32.const 0))
      (i64.store (i32.const 1072) (i64.const 2))
      (i32.store8 (i32.const 1080) (i32.const 1))
      (i32.store (i32.const 1088) (i32.const 0))
      (if (call $poll_oneoff (i32.const 1024) (i32.const 2048) (i32.const 2) (i32.const 80))
        (then unreachable))
      (i32.store8 (i32.const 90) (i32.const 46))
      (if (i32.eqz (i32.load8_u (i32.const 2058)))
        (then (call $print (i32.const 90) (i32.const 1)))
        (else
          (i32.store (i32.const 84) (i32.const 65536))
          (i32.store (i32.const 88) (i32.const 100))
          (if (call $fd_read (i32.const 0) (i32.const 84) (i32.const 1) (i32.const 92)) (then unreachable))
          (if (i32.eqz (i32.load (i32.const 92))) (then (return)))
          (call $print (i32.const 65536) (i32.load (i32.const 92)))))
      (br_if $again (i32.lt_u (local.get $turns) (i32.const 40)))))"#;

fn poll(world: &World) -> Result<()> {
    let guest = Guest::text(&with_wasi(POLL))?;
    let (stdin, mut input) = std::io::pipe()?;
    let (mut output, stdout) = std::io::pipe()?;
    let running = world.start(&guest, streams(stdin.into(), stdout))?;
    let mut one = [0];
    for sent in [b'a', b'b'] {
        // A time passes without input, twice: what was readable before is not readable for ever.
        for _ in 0..2 {
            output.read_exact(&mut one)?;
            ensure!(one == *b".", "{one:?}");
        }
        input.write_all(&[sent])?;
        while one != [sent] {
            output.read_exact(&mut one)?;
        }
    }
    drop(input);
    let rest = text(&mut output)?;
    running.finish()?.output(0)?;
    ensure!(rest.bytes().all(|byte| byte == b'.'), "{rest}");

    // A file is always ready.
    let mut file = tempfile::tempfile()?;
    file.write_all(b"all of it")?;
    file.rewind()?;
    let output = world.run_with_input(&guest, file.into())?.output(0)?;
    ensure!(output == "all of it", "{output}");
    Ok(())
}

fn non_blocking(world: &World) -> Result<()> {
    let cat = Guest::text(&with_wasi(CAT))?;
    let (stdin, mut input) = std::io::pipe()?;
    let (mut output, stdout) = std::io::pipe()?;
    rustix::io::ioctl_fionbio(&stdin, true)?;
    rustix::io::ioctl_fionbio(&stdout, true)?;
    let running = world.start(&cat, streams(stdin.into(), stdout))?;
    let bytes = test_guests::pattern(200_000);
    let to_write = bytes.clone();
    let writing = std::thread::spawn(move || input.write_all(&to_write));
    let copied = text(&mut output)?;
    writing.join().expect("it does not panic")?;
    running.finish()?.output(0)?;
    ensure!(
        copied == format!("{}0\n", String::from_utf8(bytes)?),
        "{} bytes",
        copied.len()
    );
    Ok(())
}

/// Returns the two ends of a new terminal.
fn pseudo_terminal() -> Result<(File, OwnedFd)> {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let slave = File::options()
        .read(true)
        .write(true)
        .open(name.to_str()?)?;
    Ok((master.into(), slave.into()))
}

fn streams(stdin: OwnedFd, stdout: PipeWriter) -> Streams {
    Streams {
        stdin,
        stdout: stdout.into(),
    }
}

fn text(output: &mut PipeReader) -> Result<String> {
    let mut text = String::new();
    output.read_to_string(&mut text)?;
    Ok(text)
}
