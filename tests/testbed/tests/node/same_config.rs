//! Images with one configuration and different modules, which have one id in CRI: a container runs
//! the module of the image that it names, or is refused.

use anyhow::{Result, bail, ensure};
use cri_client::config::ContainerConfig;
use cri_client::message::ContainerState;
use testbed::image::{FileArtifact, Packed, WasmImage, compile_if_text};

use crate::node::{Node, Verdict, expect, tests};
use crate::pods::is;
use crate::pods_fixture::{NAMESPACE, Pod, Pods};

tests![
    pod_runs_the_module_of_the_image_that_it_names,
    pod_with_only_an_image_id_is_refused_if_two_images_have_it,
    container_runs_its_own_module_again_after_another_image_with_its_id_was_pulled,
    pod_runs_the_image_of_its_tag_or_digest_after_the_tag_was_pulled_again,
    pod_whose_image_was_removed_is_refused_by_the_images_name,
    container_of_ctr_runs_the_module_of_the_image_that_it_names,
];

/// Compiles a module that exits with `code`.
fn exits(code: u8) -> Result<Vec<u8>> {
    let text = format!(
        "(module (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32))) \
         (memory (export \"memory\") 1) \
         (func (export \"_start\") (call $exit (i32.const {code}))))"
    );
    Ok(compile_if_text(text.as_bytes())?.into_owned())
}

/// Packs an image `name` that exits with `code`; images of one `family` have one configuration.
fn image(family: &str, name: &str, code: u8) -> Result<Packed> {
    let entrypoint = vec!["/app.wasm".to_owned(), family.to_owned()];
    WasmImage {
        reference: format!("registry.test/{name}"),
        guest: exits(code)?,
        entrypoint,
        ..WasmImage::default()
    }
    .pack()
}

/// As [`image`], with the configuration `{}`, as tools for artifacts push modules.
fn artifact(name: &str, code: u8) -> Result<Packed> {
    let (media_type, file) = ("application/wasm".to_owned(), "app.wasm".to_owned());
    FileArtifact {
        reference: format!("registry.test/{name}"),
        media_type,
        name: file,
        bytes: exits(code)?,
    }
    .pack()
}

/// Returns the image's id: the digest of its configuration.
fn id(image: &Packed) -> String {
    image.blobs()[0].digest().to_owned()
}

/// Describes a container as kubelet does: by the image's id, and with the name in the pod.
fn as_kubelet(pod: &Pod<'_>, name: &str, image: &Packed) -> ContainerConfig {
    pod.config
        .container(name, &id(image), &["/app.wasm"])
        .of_image_named(&image.reference())
}

fn expect_exit(pods: &Pods, container: &str, code: u8) -> Result<()> {
    is(pods, container, ContainerState::Exited)?;
    let found = pods.cri().container(container)?.exit_code;
    ensure!(
        found == i32::from(code),
        "it ended with {found} in place of {code}"
    );
    Ok(())
}

fn expect_refused(pod: &Pod<'_>, container: ContainerConfig, fragments: &[&str]) -> Result<()> {
    match pod.run_container(container) {
        Ok(id) => bail!("container {id} was started"),
        Err(error) => {
            let text = format!("{error:#}");
            ensure!(
                fragments.iter().all(|word| text.contains(word)),
                "the refusal does not hold {fragments:?}: {text}"
            );
            Ok(())
        }
    }
}

/// Runs `body` on pods of a containerd that supports images with Wasm layers.
fn with_pods(node: &Node, body: impl FnOnce(&Pods) -> Result<()>) -> Result<Verdict> {
    let install = node.containerd.install();
    if !install.takes_artifacts()? {
        return Ok(Verdict::Skipped(format!(
            "containerd {} unpacks every layer as a file system, Wasm or not",
            install.version
        )));
    }
    body(&*node.pods()?)?;
    Ok(Verdict::Holds)
}

fn pod_runs_the_module_of_the_image_that_it_names(node: &Node) -> Result<Verdict> {
    with_pods(node, |pods| {
        let pod = pods.pod(pods.default_config())?;
        // In either order of names and of creation.
        let pairs = [
            (image("pair", "a-pair:1", 3)?, image("pair", "b-pair:1", 4)?),
            (
                image("again", "d-pair:1", 3)?,
                image("again", "c-pair:1", 4)?,
            ),
            (
                artifact("team-a/f-pair:1", 3)?,
                artifact("team-b/e-pair:1", 4)?,
            ),
        ];
        for (number, (three, four)) in pairs.iter().enumerate() {
            ensure!(id(three) == id(four), "the images have two ids");
            for (code, image) in [(3, three), (4, four)] {
                pods.import(image)?;
                let name = format!("c{number}-{code}");
                expect_exit(
                    pods,
                    &pod.run_container(as_kubelet(&pod, &name, image))?,
                    code,
                )?;
            }
            for (code, image) in [(3, three), (4, four)] {
                let name = format!("again{number}-{code}");
                expect_exit(
                    pods,
                    &pod.run_container(as_kubelet(&pod, &name, image))?,
                    code,
                )?;
                let by_name = pod.config.container(
                    &format!("{name}-by-name"),
                    &image.reference(),
                    &["/app.wasm"],
                );
                expect_exit(pods, &pod.run_container(by_name)?, code)?;
            }
        }
        pod.remove()
    })
}

fn pod_with_only_an_image_id_is_refused_if_two_images_have_it(node: &Node) -> Result<Verdict> {
    with_pods(node, |pods| {
        let pod = pods.pod(pods.default_config())?;
        let (three, four) = (image("id", "a-id:1", 3)?, image("id", "b-id:1", 4)?);
        let by_id = |name: &str| pod.config.container(name, &id(&three), &["/app.wasm"]);
        pods.import(&three)?;
        expect_exit(pods, &pod.run_container(by_id("one"))?, 3)?;
        pods.import(&four)?;
        let args = [
            three.reference(),
            four.reference(),
            three.root().digest().to_owned(),
            id(&three),
            "remove all but one".to_owned(),
        ];
        expect_refused(&pod, by_id("two"), &args.each_ref().map(String::as_str))?;
        // Until containerd garbage-collects it, the manifest exists without a name.
        remove(pods, &four.reference())?;
        expect_exit(pods, &pod.run_container(by_id("three"))?, 3)?;
        pod.remove()
    })
}

fn container_runs_its_own_module_again_after_another_image_with_its_id_was_pulled(
    node: &Node,
) -> Result<Verdict> {
    with_pods(node, |pods| {
        let pod = pods.pod(pods.default_config())?;
        let (own, other) = (
            image("restart", "b-restart:1", 3)?,
            image("restart", "a-restart:1", 4)?,
        );
        pods.import(&own)?;
        expect_exit(
            pods,
            &pod.run_container(as_kubelet(&pod, "first", &own))?,
            3,
        )?;
        pods.import(&other)?;
        expect_exit(
            pods,
            &pod.run_container(as_kubelet(&pod, "second", &own))?,
            3,
        )?;
        pod.remove()
    })
}

fn pod_runs_the_image_of_its_tag_or_digest_after_the_tag_was_pulled_again(
    node: &Node,
) -> Result<Verdict> {
    with_pods(node, |pods| {
        let pod = pods.pod(pods.default_config())?;
        let (old, new) = (image("tag", "tag:1", 3)?, image("tag", "tag:1", 4)?);
        pods.import(&old)?;
        let by_digest = format!("registry.test/tag@{}", old.root().digest());
        pods.containerd
            .ctr()
            .args([
                "--namespace",
                NAMESPACE,
                "images",
                "tag",
                &old.reference(),
                &by_digest,
            ])
            .done()?;
        expect_exit(pods, &pod.run_container(as_kubelet(&pod, "old", &old))?, 3)?;
        pods.import(&new)?;
        expect_exit(pods, &pod.run_container(as_kubelet(&pod, "new", &new))?, 4)?;
        for (number, name) in [by_digest.clone(), by_digest.replace('@', ":1@")]
            .iter()
            .enumerate()
        {
            let container = pod
                .config
                .container(&format!("digest-{number}"), &id(&old), &["/app.wasm"])
                .of_image_named(name);
            expect_exit(pods, &pod.run_container(container)?, 3)?;
        }
        pod.remove()
    })
}

fn pod_whose_image_was_removed_is_refused_by_the_images_name(node: &Node) -> Result<Verdict> {
    with_pods(node, |pods| {
        let pod = pods.pod(pods.default_config())?;
        let (gone, stays) = (image("gone", "a-gone:1", 3)?, image("gone", "b-gone:1", 4)?);
        pods.import(&gone)?;
        pods.import(&stays)?;
        let cri = pods.cri();
        let container =
            cri.create_container(&pod.id, &pod.config, as_kubelet(&pod, "gone", &gone))?;
        remove(pods, &gone.reference())?;
        match cri.start_container(&container) {
            Ok(()) => bail!("it was started"),
            Err(error) => ensure!(
                format!("{error:#}").contains(&format!("image {} is not in", gone.reference())),
                "{error:#}"
            ),
        }
        expect_exit(
            pods,
            &pod.run_container(as_kubelet(&pod, "stays", &stays))?,
            4,
        )?;
        pod.remove()
    })
}

fn container_of_ctr_runs_the_module_of_the_image_that_it_names(node: &Node) -> Result<Verdict> {
    if !node.containerd.install().takes_artifacts()? {
        return Ok(Verdict::Skipped(
            "it unpacks every layer as a file system, Wasm or not".to_owned(),
        ));
    }
    let images = [
        (3, image("ctr", "b-ctr:1", 3)?),
        (4, image("ctr", "a-ctr:1", 4)?),
    ];
    for (_, image) in &images {
        node.image(image)?;
    }
    for (code, image) in &images {
        expect(
            &node
                .containerd
                .container(&image.reference(), &node.id("ctr-config"))
                .run()?,
            *code,
            "",
        )?;
    }
    Ok(Verdict::Holds)
}

fn remove(pods: &Pods, image: &str) -> Result<()> {
    pods.containerd
        .ctr()
        .args(["--namespace", NAMESPACE, "images", "rm", "--sync", image])
        .done()
}

/// Checks a containerd's handling of image names in pods: all versions pass on the name of a CRI
/// client, and 2.0 and later also the name that kubelet sends beside an id.
pub(crate) fn names_are_followed_or_the_pod_refused(pods: &Pods) -> Result<()> {
    let passes_names_on = !pods.containerd.install().version.starts_with("1.");
    let pod = pods.pod(pods.default_config())?;
    let images = [
        (3, image("each", "b-each:1", 3)?),
        (4, image("each", "a-each:1", 4)?),
    ];
    for (_, image) in &images {
        pods.import(image)?;
    }
    for (code, image) in &images {
        let by_name = pod.config.container(
            &format!("by-name-{code}"),
            &image.reference(),
            &["/app.wasm"],
        );
        expect_exit(pods, &pod.run_container(by_name)?, *code)?;
        let by_kubelet = as_kubelet(&pod, &format!("by-kubelet-{code}"), image);
        if passes_names_on {
            expect_exit(pods, &pod.run_container(by_kubelet)?, *code)?;
        } else {
            expect_refused(
                &pod,
                by_kubelet,
                &["registry.test/a-each:1", "registry.test/b-each:1"],
            )?;
        }
    }
    pod.remove()
}
