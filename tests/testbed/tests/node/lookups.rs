//! Look-ups of a container's entrypoint and of exec's program: in the container's own tree with all
//! its mounts. A look-up opens nothing but regular files, and an unresponsive file system delays
//! nothing else.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use rustix::fs::inotify;
use test_guests::{EXIT_42, HELLO};
use testbed::containerd::{Container, Finished};
use testbed::image::{Entry, RootfsImage, WasmLayer};
use testbed::wait;

use crate::images::{layered, refuses_wasm_layers};
use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, expect, expect_refusal, reference, tests};
use crate::stalled_fs::StalledFs;

tests![
    entrypoint_is_resolved_through_links_and_mounts_together,
    exec_resolves_its_program_through_links_and_mounts_together,
    entrypoint_that_is_not_a_regular_file_is_refused_and_never_opened,
    unresponsive_file_system_delays_no_other_container,
    volume_whose_source_does_not_answer_delays_no_other_container,
    text_module_behind_a_byte_order_mark_and_a_long_comment_runs,
    names_of_a_guest_reach_an_error_text_on_one_line,
];

/// Packs an image with a link into `/data`, and a file that a volume there covers.
fn linked(node: &Node) -> Result<String> {
    let mut image = RootfsImage::of_guest(&reference("linked"), HELLO.bytes());
    image.files.push(Entry::link("/app", "/data"));
    image
        .files
        .push(Entry::file("/data/guest.wasm", EXIT_42.bytes(), 0o644));
    node.image(&image.pack()?)
}

/// Makes a volume with a guest, and with an absolute link to a folder that holds it too.
fn volume(node: &Node) -> Result<PathBuf> {
    let folder = node.folder()?;
    fs::create_dir(folder.join("v1")).context("make a folder")?;
    for file in ["guest.wasm", "only-here.wasm", "v1/guest.wasm"] {
        fs::write(folder.join(file), HELLO.bytes()).context("write a guest")?;
    }
    symlink("/data/v1", folder.join("current")).context("make a link")?;
    Ok(folder)
}

const PATHS: [&str; 4] = [
    "/app/guest.wasm",
    "/app/only-here.wasm",
    "/data/current/guest.wasm",
    "/app/current/../guest.wasm",
];

fn entrypoint_is_resolved_through_links_and_mounts_together(node: &Node) -> Result<Verdict> {
    let (image, volume) = (linked(node)?, volume(node)?);
    let container = |path: &str| {
        node.containerd
            .container(&image, &node.id("linked"))
            .args([path])
    };
    for path in PATHS {
        expect(
            &container(path).mount(&volume, "/data").run()?,
            0,
            "hello from wasm\n",
        )
        .with_context(|| path.to_owned())?;
    }
    // The same volume mounted through the link, and below another one.
    expect(
        &container("/data/guest.wasm").mount(&volume, "/app").run()?,
        0,
        "hello from wasm\n",
    )?;
    let inner = node.folder()?;
    fs::write(inner.join("inner.wasm"), HELLO.bytes()).context("write a guest")?;
    expect(
        &container("/app/v1/inner.wasm")
            .mount(&volume, "/data")
            .mount(&inner, "/app/v1")
            .run()?,
        0,
        "hello from wasm\n",
    )?;
    expect(&container("/app/guest.wasm").run()?, 42, "")?;
    expect_refusal(
        &container("/app/guest.wasm").mount(&inner, "/data").run()?,
        &["no file", "/app/guest.wasm"],
    )
}

fn exec_resolves_its_program_through_links_and_mounts_together(node: &Node) -> Result<Verdict> {
    let image = {
        let mut image = RootfsImage::of_guest(
            &reference("linked-probe"),
            crate::node::read(&node.prepared.guests.probe)?,
        );
        image.files.push(Entry::link("/app", "/data"));
        image
            .files
            .push(Entry::file("/data/guest.wasm", EXIT_42.bytes(), 0o644));
        node.image(&image.pack()?)?
    };
    let container = node
        .containerd
        .container(&image, &node.id("linked-exec"))
        .args(["/app.wasm", "sleep", "600"]);
    let task = container.mount(&volume(node)?, "/data").start()?;
    for (number, path) in PATHS.iter().enumerate() {
        let finished = task.exec(&format!("linked-{number}"), &[path]).run()?;
        expect(&finished, 0, "hello from wasm\n").with_context(|| (*path).to_owned())?;
    }
    task.delete_by_force()?;
    Ok(Verdict::Holds)
}

/// Counts how often files of a folder were opened. `O_PATH` is not counted, as it has no effect on
/// the file.
fn opened(watch: &rustix::fd::OwnedFd) -> Result<usize> {
    let mut room = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watch, &mut room);
    let mut count = 0;
    loop {
        match events.next() {
            Ok(_) => count += 1,
            Err(rustix::io::Errno::AGAIN) => return Ok(count),
            Err(error) => return Err(anyhow!("read what was opened: {error}")),
        }
    }
}

fn entrypoint_that_is_not_a_regular_file_is_refused_and_never_opened(
    node: &Node,
) -> Result<Verdict> {
    let folder = node.folder()?;
    let make = |name: &str, kind: SFlag, number: u64| {
        mknod(
            &folder.join(name),
            kind,
            Mode::from_bits_truncate(0o777),
            number,
        )
        .with_context(|| format!("make {name}"))
    };
    make("fifo", SFlag::S_IFIFO, 0)?;
    // The device number of /dev/fuse, which opens a new file system connection, and that
    // of a block device that does not exist.
    make("device", SFlag::S_IFCHR, makedev(10, 229))?;
    make("disk", SFlag::S_IFBLK, makedev(240, 0))?;
    let _socket =
        std::os::unix::net::UnixListener::bind(folder.join("socket")).context("make a socket")?;
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)
        .context("watch")?;
    for name in ["fifo", "device", "disk", "socket"] {
        inotify::add_watch(&watch, folder.join(name), inotify::WatchFlags::OPEN)
            .context("watch a file")?;
    }
    fs::File::options()
        .read(true)
        .write(true)
        .open(folder.join("fifo"))
        .context("open the FIFO")?;
    ensure!(opened(&watch)? == 1, "opening a file is not seen");
    let task = node
        .mixed(&["sleep", "600"])?
        .mount(&folder, "/odd")
        .start()?;
    let image = node.image_of(&HELLO)?;
    for (name, kind) in [
        ("fifo", "is a FIFO"),
        ("device", "is a character device"),
        ("disk", "is a block device"),
        ("socket", "is a socket"),
    ] {
        let path = format!("/odd/{name}");
        let container = node
            .containerd
            .container(&image, &node.id("odd"))
            .args([&*path])
            .mount(&folder, "/odd");
        expect_refusal(&container.run()?, &[&path, kind])?;
        let exec = task.exec(&format!("odd-{name}"), &[&path]).run()?;
        ensure!(
            exec.code != 0
                && exec
                    .stderr
                    .contains(&format!("{path} in the container {kind}")),
            "{name}: {}",
            exec.stderr
        );
    }
    task.delete_by_force()?;
    let count = opened(&watch)?;
    ensure!(
        count == 0,
        "{count} times a file was opened that is not regular"
    );
    Ok(Verdict::Holds)
}

/// Counts look-up processes, including killed ones that cannot end.
fn lookups(node: &Node) -> Result<usize> {
    let machine = node.machine();
    Ok(machine
        .children(machine.host()?)?
        .iter()
        .filter(|child| child.name == "wasmedge-lookup")
        .count())
}

fn in_background(container: Container) -> thread::JoinHandle<Result<Finished>> {
    thread::spawn(move || container.run())
}

/// Number of execs, more than one container's limit of look-ups.
const STALLED_EXECS: usize = 7;
/// Limit of concurrent look-ups of one container.
const MAX_LOOKUPS_PER_CONTAINER: usize = 4;
/// Longer than the host's timeout of a look-up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(90);

fn unresponsive_file_system_delays_no_other_container(node: &Node) -> Result<Verdict> {
    let mut skipped = None;
    let verdict = node.alone("silent", |node| {
        let folder = node.folder()?;
        match StalledFs::mount(&node.isolated, &folder)? {
            Ok(stalled_fs) => stalled(node, stalled_fs, &folder),
            Err(reason) => {
                skipped = Some(reason);
                Ok(())
            }
        }
    })?;
    Ok(skipped.map_or(verdict, Verdict::Skipped))
}

fn stalled(node: &Node, stalled_fs: StalledFs, folder: &Path) -> Result<()> {
    let image = node.image_of(&HELLO)?;
    let task = node
        .mixed(&["sleep", "600"])?
        .mount(folder, "/stuck")
        .start()?;
    let started = Instant::now();
    let create = in_background(
        node.containerd
            .container(&image, &node.id("stuck"))
            .args(["/stuck/app.wasm"])
            .mount(folder, "/stuck"),
    );
    let execs: Vec<_> = (0..STALLED_EXECS)
        .map(|number| {
            let exec = task.exec(&format!("stuck-{number}"), &["/stuck/app.wasm"]);
            thread::spawn(move || exec.run())
        })
        .collect();
    let expected = MAX_LOOKUPS_PER_CONTAINER + 1;
    let evidence = || {
        format!(
            "{:?} look-ups, {} requests without an answer",
            lookups(node),
            stalled_fs.unanswered()
        )
    };
    wait::until(
        "look-ups to wait for the file system",
        SETTLE_TIMEOUT,
        || Ok((lookups(node)? == expected).then_some(())),
        evidence,
    )?;
    // Other containers are created and executed meanwhile, also in the container with look-ups that
    // wait for their turn.
    let healthy = node.mixed(&["sleep", "600"])?.start()?;
    expect(
        &healthy.exec("healthy", &["/native", "args"]).run()?,
        0,
        "/native\nargs\n",
    )?;
    expect(&node.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
    healthy.delete_by_force()?;
    for (number, exec) in execs.into_iter().enumerate() {
        let finished = exec.join().map_err(|_| anyhow!("a thread panicked"))??;
        ensure!(
            finished.code != 0 && finished.stderr.contains("no answer within"),
            "exec {number}: {}",
            finished.stderr
        );
    }
    let refused = create.join().map_err(|_| anyhow!("a thread panicked"))??;
    expect_refusal(
        &refused,
        &["/stuck/app.wasm", "no answer within", "check the servers"],
    )?;
    ensure!(
        started.elapsed() < LOOKUP_TIMEOUT,
        "it took {:?}",
        started.elapsed()
    );
    // The processes were killed and cannot end; there are no more of them than the limits.
    let count = lookups(node)?;
    ensure!(count <= expected, "{count} look-up processes are left");
    expect(&node.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
    drop(stalled_fs);
    wait::until(
        "look-up processes to end",
        SETTLE_TIMEOUT,
        || Ok((lookups(node)? == 0).then_some(())),
        || format!("{:?}", lookups(node)),
    )?;
    task.delete_by_force()?;
    Ok(())
}

fn volume_whose_source_does_not_answer_delays_no_other_container(node: &Node) -> Result<Verdict> {
    // A look-up of the entrypoint would meet the volume first; a Wasm layer needs none.
    if let Some(skipped) = refuses_wasm_layers(node)? {
        return Ok(skipped);
    }
    let mut skipped = None;
    let verdict = node.alone("silent-source", |node| {
        let folder = node.folder()?;
        match StalledFs::mount(&node.isolated, &folder)? {
            Ok(stalled_fs) => stalled_sources(node, stalled_fs, &folder.join("below")),
            Err(reason) => {
                skipped = Some(reason);
                Ok(())
            }
        }
    })?;
    Ok(skipped.map_or(verdict, Verdict::Skipped))
}

/// Number of containers that are created with a source that does not answer.
const STALLED_CREATES: usize = 4;

/// Threads of the host that wait for a FUSE server.
fn waiting_threads(node: &Node) -> Result<Vec<String>> {
    let host = node.machine().host()?;
    let folder = node.machine().of(host, "task");
    let mut waiting = Vec::new();
    for thread in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let wait = fs::read_to_string(thread?.path().join("wchan")).unwrap_or_default();
        if wait.contains("fuse") || wait.contains("request_wait") {
            waiting.push(wait);
        }
    }
    Ok(waiting)
}

fn stalled_sources(node: &Node, stalled_fs: StalledFs, source: &Path) -> Result<()> {
    let image = node.image(&layered("stalled-source", WasmLayer::Wasm).pack()?)?;
    expect(&node.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
    let creates: Vec<_> = (0..STALLED_CREATES)
        .map(|_| {
            in_background(
                node.containerd
                    .container(&image, &node.id("stalled"))
                    .mount(source, "/volume"),
            )
        })
        .collect();
    wait::until(
        "processes of containers to wait for the file system",
        SETTLE_TIMEOUT,
        || Ok((stalled_fs.unanswered() > 0).then_some(())),
        || format!("{:?}", node.machine().processes()),
    )?;
    for _ in 0..3 {
        expect(&node.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
    }
    let waiting = waiting_threads(node)?;
    ensure!(
        waiting.is_empty(),
        "threads of the host wait in {waiting:?}"
    );
    drop(stalled_fs);
    for create in creates {
        let refused = create.join().map_err(|_| anyhow!("a thread panicked"))??;
        expect_refusal(&refused, &["mount", "on /volume"])?;
    }
    Ok(())
}

fn text_module_behind_a_byte_order_mark_and_a_long_comment_runs(node: &Node) -> Result<Verdict> {
    let module = format!(
        "\u{feff};; {}\n(; (; nested ;) ;)\n(module (memory (export \"memory\") 1) (func (export \
         \"_start\")))",
        "x".repeat(10_000)
    );
    let image = node.image(&RootfsImage::of_guest(&reference("marked-text"), module).pack()?)?;
    expect(
        &node
            .containerd
            .container(&image, &node.id("marked"))
            .run()?,
        0,
        "",
    )
}

fn names_of_a_guest_reach_an_error_text_on_one_line(node: &Node) -> Result<Verdict> {
    let module =
        r#"(module (import "a\0alevel=fatal\1b[2J" "mystery" (func)) (func (export "_start")))"#;
    let image = node.image(&RootfsImage::of_guest(&reference("odd-names"), module).pack()?)?;
    let finished = node
        .containerd
        .container(&image, &node.id("odd-names"))
        .run()?;
    // Some versions of containerd quote the text once more.
    ensure!(
        !finished.stderr.contains("\nlevel=fatal") && !finished.stderr.contains('\u{1b}'),
        "{}",
        finished.stderr
    );
    expect_refusal(&finished, &[r"level=fatal", r"\u{1b}[2j.mystery"])
}
