//! Settings of guests in annotations: accepted, ignored, refused by name, locked.

use anyhow::{Context as _, Result, anyhow, ensure};
use test_guests::HELLO;

use crate::node::{Node, Verdict, expect, expect_refusal, tests};
use crate::pods_fixture::Pods;

tests![
    guest_with_possible_settings_runs,
    annotation_with_an_unknown_key_is_refused_by_name,
    annotation_with_an_impossible_value_is_refused_with_the_possible_ones,
    native_container_ignores_the_settings_of_guests,
    annotations_of_a_pod_are_settings_of_its_guests,
    annotation_for_a_locked_setting_is_refused_by_name,
];

/// Arguments of a guest of the pods' image that keeps running.
const SLEEP_COMMAND: &[&str] = &["/app.wasm", "sleep", "600"];

fn guest_with_possible_settings_runs(node: &Node) -> Result<Verdict> {
    let guest = node
        .guest(&HELLO)?
        .annotation("runtime.wasmedge.dev/mode", "interpreter")
        .annotation("runtime.wasmedge.dev/compile-wait.another", "no duration");
    expect(&guest.run()?, 0, "hello from wasm\n")
}

fn annotation_with_an_unknown_key_is_refused_by_name(node: &Node) -> Result<Verdict> {
    let name = "runtime.wasmedge.dev/engin";
    let guest = node.guest(&HELLO)?.annotation(name, "auto");
    expect_refusal(
        &guest.run()?,
        &[name, "engine, mode, compile, compile-wait"],
    )
}

fn annotation_with_an_impossible_value_is_refused_with_the_possible_ones(
    node: &Node,
) -> Result<Verdict> {
    let name = "runtime.wasmedge.dev/compile-wait";
    let guest = node.guest(&HELLO)?.annotation(name, "11m");
    expect_refusal(&guest.run()?, &[name, "11m", "10 minutes"])?;
    let name = "runtime.wasmedge.dev/mode";
    let guest = node.guest(&HELLO)?.annotation(name, "jit");
    expect_refusal(&guest.run()?, &[name, "jit", "aot", "interpreter"])
}

fn native_container_ignores_the_settings_of_guests(node: &Node) -> Result<Verdict> {
    let native = node
        .native(&["args"])?
        .annotation("runtime.wasmedge.dev/engin", "none");
    expect(&native.run()?, 0, "/native\nargs\n")
}

/// Creates a container of `args` called `app` in a new pod with this annotation. Returns the error
/// of a refused container, and none for one that has started.
fn refusal(pods: &Pods, annotation: (&str, &str), args: &[&str]) -> Result<Option<String>> {
    let (name, value) = annotation;
    let mut config = pods.default_config();
    config.annotations.insert(name.to_owned(), value.to_owned());
    let pod = pods.pod(config)?;
    let refused = pod.run("app", args).err().map(|error| format!("{error:#}"));
    pod.remove()?;
    Ok(refused)
}

fn is_refused(pods: &Pods, annotation: (&str, &str), words: &[&str]) -> Result<()> {
    let refused = refusal(pods, annotation, SLEEP_COMMAND)?
        .with_context(|| format!("a guest with {annotation:?} was started"))?;
    ensure!(
        words.iter().all(|word| refused.contains(word)),
        "{annotation:?}: {refused}"
    );
    Ok(())
}

fn is_accepted(pods: &Pods, annotation: (&str, &str), args: &[&str]) -> Result<()> {
    let refused = refusal(pods, annotation, args)?;
    ensure!(refused.is_none(), "{annotation:?}, {args:?}: {refused:?}");
    Ok(())
}

fn annotations_of_a_pod_are_settings_of_its_guests(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let unknown = ("runtime.wasmedge.dev/color", "red");
    is_refused(&pods, unknown, &["runtime.wasmedge.dev/color", "engine"])?;
    let own = ("runtime.wasmedge.dev/compile.app", "always");
    is_refused(&pods, own, &["compile.app", "always", "tiered"])?;
    is_accepted(
        &pods,
        ("runtime.wasmedge.dev/compile.another", "always"),
        SLEEP_COMMAND,
    )?;
    is_accepted(
        &pods,
        ("runtime.wasmedge.dev/mode", "interpreter"),
        SLEEP_COMMAND,
    )?;
    is_accepted(&pods, unknown, &["/native", "sleep"])?;
    Ok(Verdict::Holds)
}

fn annotation_for_a_locked_setting_is_refused_by_name(node: &Node) -> Result<Verdict> {
    let install = node.containerd.install();
    if install.version.starts_with("1.6") {
        return Ok(Verdict::Skipped(format!(
            "containerd {} passes a handler's options only to runc",
            install.version
        )));
    }
    let pods = Pods::start_with(install, &node.prepared, "locked = [\"mode\"]")?;
    let body = || {
        let locked = ("runtime.wasmedge.dev/mode", "interpreter");
        is_refused(&pods, locked, &[locked.0, "locked on this node", "aot"])?;
        is_accepted(
            &pods,
            ("runtime.wasmedge.dev/compile", "never"),
            SLEEP_COMMAND,
        )
    };
    body().map_err(|error| anyhow!("{error:#}\nalone, {}", pods.containerd.evidence()))?;
    pods.finish()
}
