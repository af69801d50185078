//! A guest's view of files: its root, mounts and devices, and nothing of the node.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use test_guests::HELLO;
use testbed::image::{Entry, RootfsImage};

use crate::node::{Node, Verdict, expect, expect_refusal, reference, tests};

tests![
    guest_root_is_the_images,
    relative_paths_of_a_guest_start_at_its_root,
    an_entrypoint_relative_to_the_working_directory_is_found,
    guest_has_the_default_devices,
    a_mount_is_read_and_written,
    a_read_only_mount_is_not_written,
    a_read_only_root_is_not_written,
    a_guest_in_a_mounted_volume_runs,
    guest_cannot_read_a_file_of_the_node,
    link_out_of_the_root_is_not_followed,
    a_link_within_the_root_is_followed,
];

fn guest_root_is_the_images(node: &Node) -> Result<Verdict> {
    let finished = node.probe(&["ls", "/"])?.run()?;
    ensure!(
        finished.code == 0,
        "exit code {}; standard error:\n{}",
        finished.code,
        finished.stderr
    );
    let text = finished.text();
    for name in ["app.wasm", "data"] {
        ensure!(
            text.lines().any(|line| line == name),
            "/ holds no {name}:\n{text}"
        );
    }
    ensure!(
        !text
            .lines()
            .any(|line| matches!(line, "root" | "home" | "boot")),
        "/ holds folders of the machine:\n{text}"
    );
    let finished = node.probe(&["stat", "/data"])?.run()?;
    ensure!(
        finished.code == 0 && finished.text().starts_with("directory "),
        "/data: {}{}",
        finished.text(),
        finished.stderr
    );
    Ok(Verdict::Holds)
}

/// Shows that WASI preview 1 has no working directory: a C library starts each guest at `/`, and no
/// interface changes that. The spec's working directory is used to find the entrypoint (the next
/// test).
fn relative_paths_of_a_guest_start_at_its_root(node: &Node) -> Result<Verdict> {
    expect(&node.probe(&["cwd"])?.cwd("/data").run()?, 0, "/\n")?;
    let finished = node.probe(&["ls", "."])?.cwd("/data").run()?;
    ensure!(
        finished.text().contains("app.wasm"),
        "`.` is not the root:\n{}",
        finished.text()
    );
    Ok(Verdict::Holds)
}

fn an_entrypoint_relative_to_the_working_directory_is_found(node: &Node) -> Result<Verdict> {
    for (name, entrypoint) in [
        ("relative-plain", "app.wasm"),
        ("relative-dot", "./app.wasm"),
    ] {
        let image = RootfsImage {
            reference: reference(name),
            entrypoint: vec![entrypoint.to_owned()],
            working_dir: "/srv".to_owned(),
            files: vec![Entry::file("/srv/app.wasm", HELLO.bytes(), 0o644)],
            ..RootfsImage::default()
        };
        let image = node.image(&image.pack()?)?;
        expect(
            &node.containerd.container(&image, &node.id(name)).run()?,
            0,
            "hello from wasm\n",
        )?;
    }
    Ok(Verdict::Holds)
}

fn guest_has_the_default_devices(node: &Node) -> Result<Verdict> {
    for device in [
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
    ] {
        let finished = node.probe(&["stat", device])?.run()?;
        ensure!(finished.code == 0, "{device}: {}", finished.stderr);
        ensure!(
            finished.text().starts_with("character device"),
            "{device} is a {}",
            finished.text()
        );
    }
    expect(&node.probe(&["write", "/dev/null", "x"])?.run()?, 0, "")
}

fn a_mount_is_read_and_written(node: &Node) -> Result<Verdict> {
    let folder = node.folder()?;
    fs::write(folder.join("in"), "from outside").context("write the file to be read")?;
    expect(
        &node
            .probe(&["read", "/mnt/in"])?
            .mount(&folder, "/mnt")
            .run()?,
        0,
        "from outside",
    )?;
    expect(
        &node
            .probe(&["write", "/mnt/out", "from inside"])?
            .mount(&folder, "/mnt")
            .run()?,
        0,
        "",
    )?;
    let found = fs::read_to_string(folder.join("out")).context("read what the guest wrote")?;
    ensure!(found == "from inside", "the guest wrote {found:?}");
    Ok(Verdict::Holds)
}

fn a_read_only_mount_is_not_written(node: &Node) -> Result<Verdict> {
    let folder = node.folder()?;
    fs::write(folder.join("file"), "as it was").context("write the file to be protected")?;
    expect(
        &node
            .probe(&["read", "/mnt/file"])?
            .mount_read_only(&folder, "/mnt")
            .run()?,
        0,
        "as it was",
    )?;
    for args in [
        ["write", "/mnt/file", "changed"],
        ["write", "/mnt/new", "made"],
        ["append", "/mnt/file", "more"],
    ] {
        let finished = node.probe(&args)?.mount_read_only(&folder, "/mnt").run()?;
        ensure!(
            finished.code == 1,
            "{args:?}: exit code {}; standard error:\n{}",
            finished.code,
            finished.stderr
        );
    }
    let left: Vec<_> = fs::read_dir(&folder)
        .context("list the protected folder")?
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    let text = fs::read_to_string(folder.join("file")).context("read the protected file")?;
    ensure!(
        left == ["file"] && text == "as it was",
        "it was written: {left:?}, {text:?}"
    );
    Ok(Verdict::Holds)
}

fn a_read_only_root_is_not_written(node: &Node) -> Result<Verdict> {
    let finished = node
        .probe(&["write", "/data/new", "made"])?
        .flag("--read-only")
        .run()?;
    ensure!(
        finished.code == 1,
        "exit code {}; standard error:\n{}",
        finished.code,
        finished.stderr
    );
    expect(&node.probe(&["write", "/data/new", "made"])?.run()?, 0, "")
}

fn a_guest_in_a_mounted_volume_runs(node: &Node) -> Result<Verdict> {
    let folder = node.folder()?;
    fs::write(folder.join("mounted.wasm"), HELLO.bytes()).context("write the guest")?;
    let image = node.image_of(&HELLO)?;
    let container = node
        .containerd
        .container(&image, &node.id("volume"))
        .mount_read_only(&folder, "/volume")
        .args(["/volume/mounted.wasm"]);
    expect(&container.run()?, 0, "hello from wasm\n")
}

fn guest_cannot_read_a_file_of_the_node(node: &Node) -> Result<Verdict> {
    let folder = node.folder()?;
    let secret = folder.join("secret");
    fs::write(&secret, "of the machine").context("write the file that must not be seen")?;
    for path in [
        secret.display().to_string(),
        format!("/../../..{}", secret.display()),
        "/etc/hostname".to_owned(),
    ] {
        let finished = node.probe(&["read", &path])?.run()?;
        ensure!(
            finished.code == 1 && finished.stdout.is_empty(),
            "it read {path}: {:?}",
            finished.text()
        );
    }
    Ok(Verdict::Holds)
}

fn link_out_of_the_root_is_not_followed(node: &Node) -> Result<Verdict> {
    let folder = node.folder()?;
    let outside = folder.join("outside.wasm");
    fs::write(&outside, HELLO.bytes()).context("write the guest that must not be found")?;
    for (name, target) in [
        ("escape-absolute", outside.display().to_string()),
        (
            "escape-relative",
            format!("../../../../../..{}", outside.display()),
        ),
    ] {
        let image = RootfsImage {
            reference: reference(&format!("{}-{}", name, node.containerd.install().name)),
            entrypoint: vec!["/app.wasm".to_owned()],
            files: vec![Entry::link("/app.wasm", &target)],
            ..RootfsImage::default()
        };
        let image = node.image(&image.pack()?)?;
        expect_refusal(
            &node.containerd.container(&image, &node.id(name)).run()?,
            &["/app.wasm"],
        )?;
    }
    Ok(Verdict::Holds)
}

fn a_link_within_the_root_is_followed(node: &Node) -> Result<Verdict> {
    let image = RootfsImage {
        reference: reference("link-within"),
        entrypoint: vec!["/app.wasm".to_owned()],
        files: vec![
            Entry::file("/lib/real.wasm", HELLO.bytes(), 0o644),
            Entry::link("/app.wasm", "/lib/real.wasm"),
        ],
        ..RootfsImage::default()
    };
    let image = node.image(&image.pack()?)?;
    expect(
        &node.containerd.container(&image, &node.id("link")).run()?,
        0,
        "hello from wasm\n",
    )
}
