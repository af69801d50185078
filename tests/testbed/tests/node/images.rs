//! The image forms of a guest: root file system, Wasm layer, artifact, index, text.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use test_guests::{HELLO, HELLO_WITH_NATIVE_SECTION};
use testbed::containerd::Form;
use testbed::image::{Artifact, Compression, Entry, Packed, RootfsImage, WasmImage, WasmLayer};

use crate::node::{Node, Verdict, expect, reference, tests};

tests![
    a_compressed_layer_is_unpacked,
    an_image_behind_an_index_runs,
    a_wasm_layer_is_the_guest,
    a_wasm_layer_of_each_known_type_is_the_guest,
    a_wasm_layer_runs_beside_the_files_of_the_image,
    a_wasm_layer_behind_an_index_is_the_guest,
    an_artifact_runs,
    an_artifact_behind_an_index_runs,
    webassembly_text_as_entrypoint_runs,
    foreign_native_code_in_a_guest_is_not_executed,
];

fn run(node: &Node, packed: &Packed, name: &str) -> Result<Verdict> {
    let image = node.image(packed)?;
    expect(
        &node.containerd.container(&image, &node.id(name)).run()?,
        0,
        "hello from wasm\n",
    )
}

pub(crate) fn layered(name: &str, layer: WasmLayer) -> WasmImage {
    let entrypoint = vec!["/app.wasm".to_owned()];
    WasmImage {
        reference: reference(name),
        guest: HELLO.bytes().into_owned(),
        layer,
        entrypoint,
        ..WasmImage::default()
    }
}

fn a_compressed_layer_is_unpacked(node: &Node) -> Result<Verdict> {
    let image = RootfsImage {
        compression: Compression::Gzip,
        ..RootfsImage::of_guest(&reference("gzip"), HELLO.bytes())
    };
    run(node, &image.pack()?, "gzip")
}

fn an_image_behind_an_index_runs(node: &Node) -> Result<Verdict> {
    run(
        node,
        &RootfsImage::of_guest(&reference("index"), HELLO.bytes())
            .pack()?
            .behind_index(),
        "index",
    )
}

fn a_wasm_layer_is_the_guest(node: &Node) -> Result<Verdict> {
    if let Some(skipped) = refuses_wasm_layers(node)? {
        return Ok(skipped);
    }
    run(
        node,
        &layered("wasm-layer", WasmLayer::Wasm).pack()?,
        "wasm-layer",
    )
}

fn a_wasm_layer_of_each_known_type_is_the_guest(node: &Node) -> Result<Verdict> {
    if let Some(skipped) = refuses_wasm_layers(node)? {
        return Ok(skipped);
    }
    for (number, layer) in WasmLayer::ALL.into_iter().enumerate() {
        let name = format!("wasm-layer-{number}");
        run(node, &layered(&name, layer).pack()?, &name)
            .with_context(|| format!("a layer of type {}", layer.media_type()))?;
    }
    Ok(Verdict::Holds)
}

fn a_wasm_layer_runs_beside_the_files_of_the_image(node: &Node) -> Result<Verdict> {
    if let Some(skipped) = refuses_wasm_layers(node)? {
        return Ok(skipped);
    }
    let probe = fs::read(&node.prepared.guests.probe).context("read the probe")?;
    let image = WasmImage {
        guest: probe,
        files: vec![Entry::file("/data/file", "of the image", 0o644)],
        ..layered("wasm-files", WasmLayer::Wasm)
    };
    let image = node.image(&image.pack()?)?;
    let container = node
        .containerd
        .container(&image, &node.id("wasm-files"))
        .args(["/app.wasm", "read", "/data/file"]);
    expect(&container.run()?, 0, "of the image")
}

fn a_wasm_layer_behind_an_index_is_the_guest(node: &Node) -> Result<Verdict> {
    if let Some(skipped) = refuses_wasm_layers(node)? {
        return Ok(skipped);
    }
    run(
        node,
        &layered("wasm-layer-index", WasmLayer::Wasm)
            .pack()?
            .behind_index(),
        "wasm-layer-index",
    )
}

/// Returns the reason if this containerd does not support images with a layer that is not a file
/// system.
pub(crate) fn refuses_wasm_layers(node: &Node) -> Result<Option<Verdict>> {
    let install = node.containerd.install();
    let reason = || {
        Verdict::Skipped(format!(
            "containerd {} unpacks every layer as a file system, Wasm or not",
            install.version
        ))
    };
    Ok((!install.takes_artifacts()?).then(reason))
}

fn artifact(node: &Node, name: &str, finish: fn(Packed) -> Packed) -> Result<Verdict> {
    if let Some(skipped) = refuses_wasm_layers(node)? {
        return Ok(skipped);
    }
    let packed = Artifact {
        reference: reference(name),
        guest: HELLO.bytes().into_owned(),
        ..Artifact::default()
    }
    .pack()?;
    let image = node.image(&finish(packed))?;
    let container = node
        .containerd
        .container(&image, &node.id(name))
        .form(Form::Artifact)
        .args(["hello"]);
    expect(&container.run()?, 0, "hello from wasm\n")
}

fn an_artifact_runs(node: &Node) -> Result<Verdict> {
    artifact(node, "artifact", |packed| packed)
}

fn an_artifact_behind_an_index_runs(node: &Node) -> Result<Verdict> {
    artifact(node, "artifact-index", Packed::behind_index)
}

fn webassembly_text_as_entrypoint_runs(node: &Node) -> Result<Verdict> {
    let text = HELLO.wat().context("this guest is written as text")?;
    let image = RootfsImage {
        reference: reference("text"),
        entrypoint: vec!["/hello.wat".to_owned()],
        files: vec![Entry::file("/hello.wat", text, 0o644)],
        ..RootfsImage::default()
    };
    run(node, &image.pack()?, "text")
}

fn foreign_native_code_in_a_guest_is_not_executed(node: &Node) -> Result<Verdict> {
    let finished = node.guest(&HELLO_WITH_NATIVE_SECTION)?.run()?;
    ensure!(
        !finished.stderr.to_lowercase().contains("load aot"),
        "the engine examined it:\n{}",
        finished.stderr
    );
    expect(&finished, 0, "hello from wasm\n")
}
