//! Attacks on exec: what a guest, an image or a program in the container prepares for the next process that is started there.

use anyhow::{Result, ensure};
use testbed::containerd::Task;
use testbed::image::Entry;

use crate::machine::LIMIT;
use crate::node::{Node, Verdict, expect, expect_refusal, mixed_image_with, tests};

tests![
    exec_refuses_a_root_whose_proc_is_a_symbolic_link,
    create_refuses_an_image_whose_proc_is_a_symbolic_link,
    masked_files_are_the_null_device_after_a_guest_replaced_its_own,
];

/// A kernel parameter of the node: root on the node is whoever writes it.
const CORE_PATTERN: &str = "sys/kernel/core_pattern";

fn end(node: &Node, task: Task) -> Result<()> {
    let id = task.id().to_owned();
    task.kill("SIGKILL")?;
    task.wait(LIMIT)?;
    task.delete()?;
    node.machine().nothing_left(&id)
}

/// Has a guest in the container do something to its files.
fn guest_does(node: &Node, task: &Task, words: &[&str]) -> Result<()> {
    let words: Vec<&str> = std::iter::once("/app.wasm").chain(words.iter().copied()).collect();
    expect(&task.exec(&node.id("guest"), &words).run()?, 0, "").map(drop)
}

fn exec_refuses_a_root_whose_proc_is_a_symbolic_link(node: &Node) -> Result<Verdict> {
    let task = node.mixed(&["sleep", "600"])?.start()?;
    // The first program finds its folder, or has it made.
    expect(&task.exec("first", &["/native", "read", "/proc/keys"]).run()?, 0, "")?;
    for words in [&["remove", "/proc"][..], &["mkdir", "/p"], &["mkdir", "/p/x"], &["link", "p/x/..", "/proc"]] {
        guest_does(node, &task, words)?;
    }
    for path in ["/p", "/proc"].map(|folder| format!("{folder}/{CORE_PATTERN}")) {
        let finished = task.exec(&node.id("attack"), &["/native", "open", &path]).run()?;
        ensure!(finished.code != 0 && finished.stdout.is_empty(), "{path} can be written: {}", finished.text());
        ensure!(finished.stderr.contains("/proc in the container: it is a symbolic link"), "the error is {}", finished.stderr);
    }
    // Put right again, it is served again.
    for words in [&["remove", "/proc"][..], &["mkdir", "/proc"]] {
        guest_does(node, &task, words)?;
    }
    expect(&task.exec("then", &["/native", "read", "/proc/keys"]).run()?, 0, "")?;
    end(node, task)?;
    Ok(Verdict::Holds)
}

fn create_refuses_an_image_whose_proc_is_a_symbolic_link(node: &Node) -> Result<Verdict> {
    let files = vec![Entry::folder("/p", 0o755), Entry::folder("/p/x", 0o755), Entry::link("/proc", "p/x/..")];
    let image = node.image(&mixed_image_with(&node.prepared, "proc-link", files)?)?;
    let finished = node.containerd.container(&image, &node.id("proc-link")).args(["/app.wasm", "args"]).run()?;
    expect_refusal(&finished, &["mask /proc/", "leads through a symbolic link"])
}

fn masked_files_are_the_null_device_after_a_guest_replaced_its_own(node: &Node) -> Result<Verdict> {
    let image = node.image(&mixed_image_with(&node.prepared, "with-proc", vec![Entry::folder("/proc", 0o755)])?)?;
    for root in ["writable", "read-only"] {
        let container = node.containerd.container(&image, &node.id("null")).args(["/app.wasm", "sleep", "600"]);
        let task = if root == "read-only" { container.flag("--read-only") } else { container }.start()?;
        guest_does(node, &task, &["remove", "/dev/null"])?;
        guest_does(node, &task, &["link", &format!("../proc/{CORE_PATTERN}"), "/dev/null"])?;
        // What the guest made of its device is there, and hides nothing.
        let finished = task.exec("own", &["/native", "device", "/dev/null"]).run()?;
        ensure!(
            finished.code == 1 && finished.stderr.contains("not a character device"),
            "{root}: {} {}",
            finished.text(),
            finished.stderr
        );
        expect(&task.exec("masked", &["/native", "device", "/proc/keys"]).run()?, 0, "1:3\n")?;
        let finished = task.exec("param", &["/native", "open", &format!("/proc/{CORE_PATTERN}")]).run()?;
        ensure!(finished.code == 1, "{root}: a parameter of the node can be written: {}", finished.text());
        end(node, task)?;
    }
    Ok(Verdict::Holds)
}
