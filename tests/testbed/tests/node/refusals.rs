//! Refusals by Create, with a message that has the object and the next step.

use anyhow::Result;
use test_guests::{COMPONENT, FUNCTION, HELLO, NOT_WASM, REACTOR, UNKNOWN_IMPORT};
use testbed::image::RootfsImage;

use crate::node::{Node, Verdict, expect_refusal, reference, tests};

tests![
    missing_entrypoint_is_named,
    an_image_without_an_entrypoint_is_refused,
    folder_as_entrypoint_is_refused,
    file_that_is_not_a_module_is_refused,
    unknown_import_is_named,
    a_module_without_start_is_refused,
    a_function_that_the_guest_does_not_export_is_named,
    a_component_is_refused_clearly,
];

/// Starts a container of `HELLO`'s image with `entrypoint` instead.
fn start(node: &Node, entrypoint: &str) -> Result<testbed::containerd::Finished> {
    let image = node.image_of(&HELLO)?;
    node.containerd
        .container(&image, &node.id("refused"))
        .args([entrypoint])
        .run()
}

fn missing_entrypoint_is_named(node: &Node) -> Result<Verdict> {
    expect_refusal(
        &start(node, "/nowhere.wasm")?,
        &["/nowhere.wasm", "no file", "check"],
    )
}

fn an_image_without_an_entrypoint_is_refused(node: &Node) -> Result<Verdict> {
    let mut image = RootfsImage::of_guest(&reference("no-entrypoint"), HELLO.bytes());
    image.entrypoint.clear();
    let image = node.image(&image.pack()?)?;
    let finished = node
        .containerd
        .container(&image, &node.id("no-entrypoint"))
        .run()?;
    // containerd's client refuses some of these before the shim is called.
    if finished.stderr.contains("no command specified")
        || finished.stderr.contains("args must not be empty")
    {
        return Ok(Verdict::Skipped(
            "this containerd refuses such an image by itself".to_owned(),
        ));
    }
    expect_refusal(&finished, &["entrypoint"])
}

fn folder_as_entrypoint_is_refused(node: &Node) -> Result<Verdict> {
    expect_refusal(&start(node, "/")?, &["not a file"])
}

fn file_that_is_not_a_module_is_refused(node: &Node) -> Result<Verdict> {
    expect_refusal(
        &node.guest(&NOT_WASM)?.run()?,
        &["/app.wasm", "not a WebAssembly module", "build"],
    )
}

fn unknown_import_is_named(node: &Node) -> Result<Verdict> {
    expect_refusal(
        &node.guest(&UNKNOWN_IMPORT)?.run()?,
        &["/app.wasm", "nowhere", "nothing"],
    )
}

fn a_module_without_start_is_refused(node: &Node) -> Result<Verdict> {
    expect_refusal(&node.guest(&REACTOR)?.run()?, &["/app.wasm", "_start"])
}

fn a_function_that_the_guest_does_not_export_is_named(node: &Node) -> Result<Verdict> {
    let image = node.image_of(&FUNCTION)?;
    let finished = node
        .containerd
        .container(&image, &node.id("no-function"))
        .args(["/app.wasm#absent"])
        .run()?;
    expect_refusal(&finished, &["/app.wasm", "absent"])
}

fn a_component_is_refused_clearly(node: &Node) -> Result<Verdict> {
    expect_refusal(
        &node.guest(&COMPONENT)?.run()?,
        &["/app.wasm", "component", "wasip1"],
    )
}
