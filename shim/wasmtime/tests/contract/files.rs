//! Files of the guest's root.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};

use crate::Test;
use crate::guest::{Guest, World, with_wasi};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("files_are_written_read_and_removed_below_the_root", files),
    ("paths_do_not_lead_out_of_the_root", escapes),
    ("times_of_a_file_are_set_without_proc", times),
    ("large_file_is_read_in_one_call", large_file),
];

/// WASI's numbers of errors.
const ENOENT: u32 = 44;
const EPERM: u32 = 63;

/// Opens the file with the name at 1024 with flags for opening, and exits with the error if there
/// is one; its number is at 80.
fn open(name: &str, create: u32) -> String {
    format!(
        r#"(data (i32.const 1024) "{name}")
           (func $open
             (local $error i32)
             (local.set $error (call $path_open (i32.const 3) (i32.const 1) (i32.const 1024) (i32.const {})
               (i32.const {create}) (i64.const 0x1fffffff) (i64.const 0x1fffffff) (i32.const 0) (i32.const 80)))
             (if (local.get $error) (then (call $proc_exit (local.get $error)))))"#,
        name.len()
    )
}

/// Reads up to the given number of bytes of the open file, and writes them.
const READ: &str = r"(func $read (param $length i32)
    (i32.store (i32.const 84) (i32.const 65536))
    (i32.store (i32.const 88) (local.get $length))
    (if (call $fd_read (i32.load (i32.const 80)) (i32.const 84) (i32.const 1) (i32.const 92)) (then unreachable))
    (call $print (i32.const 65536) (i32.load (i32.const 92))))";

fn files(world: &World) -> Result<()> {
    let write = format!(
        r#"{} (data (i32.const 2048) "new folder")
           (func (export "_start")
             (if (call $path_create_directory (i32.const 3) (i32.const 2048) (i32.const 10)) (then unreachable))
             (call $open)
             (if (call $write (i32.load (i32.const 80)) (i32.const 2048) (i32.const 10)) (then unreachable))
             (if (call $fd_close (i32.load (i32.const 80))) (then unreachable)))"#,
        open("new folder/file", 1)
    );
    world.run(&Guest::text(&with_wasi(&write))?)?.output(0)?;
    let file = world.root().join("new folder/file");
    ensure!(fs::read_to_string(&file)? == "new folder");

    let read = format!(
        r#"{} {READ} (func (export "_start") (call $open) (call $read (i32.const 100)))"#,
        open("new folder/../new folder/file", 0)
    );
    let output = world.run(&Guest::text(&with_wasi(&read))?)?.output(0)?;
    ensure!(output == "new folder", "{output}");

    let remove = r#"(data (i32.const 1024) "new folder/file")
        (func (export "_start")
          (if (call $path_unlink_file (i32.const 3) (i32.const 1024) (i32.const 15)) (then unreachable))
          (call $proc_exit (call $path_unlink_file (i32.const 3) (i32.const 1024) (i32.const 15))))"#;
    world
        .run(&Guest::text(&with_wasi(remove))?)?
        .output(ENOENT)?;
    ensure!(!file.exists());
    Ok(())
}

fn escapes(world: &World) -> Result<()> {
    let outside = tempfile::tempdir()?;
    fs::write(outside.path().join("secret"), "secret")?;
    symlink(outside.path().join("secret"), world.root().join("absolute"))?;
    symlink(
        "../../../../../../../../etc/passwd",
        world.root().join("upwards"),
    )?;
    symlink("target", world.root().join("inside"))?;
    fs::write(world.root().join("target"), "target")?;
    for (name, expected) in [
        ("../etc/passwd", EPERM),
        ("/etc/passwd", EPERM),
        ("absolute", EPERM),
        ("upwards", EPERM),
        ("missing", ENOENT),
        ("inside", 0),
    ] {
        let text = format!(
            r#"{} {READ} (func (export "_start") (call $open) (call $read (i32.const 100)))"#,
            open(name, 0)
        );
        let finished = world.run(&Guest::text(&with_wasi(&text))?)?;
        let shown = format!("{name}: {finished:?}");
        let output = finished.output(expected);
        ensure!(
            output
                .as_ref()
                .is_ok_and(|text| text.is_empty() == (expected != 0)),
            "{shown}"
        );
    }
    Ok(())
}

fn times(world: &World) -> Result<()> {
    let file = world.root().join("old");
    fs::write(&file, "old")?;
    // Readable alone: it cannot be opened for writing.
    let mut permissions = fs::metadata(&file)?.permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&file, permissions)?;
    let text = r#"(data (i32.const 1024) "old")
        (func (export "_start")
          (call $proc_exit (call $path_filestat_set_times (i32.const 3) (i32.const 1) (i32.const 1024) (i32.const 3)
            (i64.const 1000000000) (i64.const 2000000000) (i32.const 5))))"#;
    world.run(&Guest::text(&with_wasi(text))?)?.output(0)?;
    let modified = fs::metadata(&file)?
        .modified()?
        .duration_since(SystemTime::UNIX_EPOCH)?;
    ensure!(modified == Duration::from_secs(2), "{modified:?}");
    Ok(())
}

/// More than Wasmtime lets a call copy by default.
fn large_file(world: &World) -> Result<()> {
    const SIZE: u64 = 160 << 20;
    fs::File::create(world.root().join("large"))?.set_len(SIZE)?;
    let text = format!(
        r#"{}
           (func (export "_start")
             (call $open)
             (drop (memory.grow (i32.const 2700)))
             (i32.store (i32.const 84) (i32.const 65536))
             (i32.store (i32.const 88) (i32.const {SIZE}))
             (if (call $fd_read (i32.load (i32.const 80)) (i32.const 84) (i32.const 1) (i32.const 92)) (then unreachable))
             (call $number (i32.load (i32.const 92))))"#,
        open("large", 0)
    );
    let output = world.run(&Guest::text(&with_wasi(&text))?)?.output(0)?;
    ensure!(output == format!("{SIZE}\n"), "{output}");
    Ok(())
}
