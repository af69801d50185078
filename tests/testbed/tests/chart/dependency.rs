//! The chart as a dependency of another one, with all of Helm's features for dependencies.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testbed::command::Run;

use crate::subject::Subject;
use crate::{Verdict, tests};

tests!(
    chart_renders_as_dependency_with_condition_tags_globals_and_alias,
    chart_is_left_out_where_its_condition_is_false
);

/// Writes a chart with this one in its folder of dependencies; `more` keys are added to the
/// dependency.
fn parent(subject: &Subject, folder: &Path, more: &Value) -> Result<()> {
    let mut dependency = json!({ "name": "wasmedge-operator", "version": "*", "repository": "" });
    for (name, value) in more.as_object().into_iter().flatten() {
        dependency[name] = value.clone();
    }
    let chart = json!({ "apiVersion": "v2", "name": "parent", "version": "0.1.0",
        "dependencies": [dependency] });
    fs::write(folder.join("Chart.yaml"), chart.to_string()).context("write Chart.yaml")?;
    let charts = folder.join("charts");
    fs::create_dir(&charts).context("make the folder charts")?;
    Run::new("cp")
        .arg("--recursive")
        .arg(&subject.chart)
        .arg(&charts)
        .done()
}

fn render(subject: &Subject, dependency: &Value, values: &Value) -> Result<String> {
    let folder = tempfile::tempdir().context("make a folder for a chart")?;
    parent(subject, folder.path(), dependency)?;
    let file = folder.path().join("all.json");
    fs::write(&file, values.to_string()).context("write values")?;
    subject
        .helm
        .run()
        .args(["template", "x", "--namespace=parent", "--values"])
        .arg(&file)
        .arg(folder.path())
        .text()
}

fn chart_renders_as_dependency_with_condition_tags_globals_and_alias(
    subject: &Subject,
) -> Result<Verdict> {
    let condition = json!({ "condition": "wasmedge-operator.enabled" });
    let tagged = json!({ "tags": ["wasm"], "import-values": [{ "child": "image",
        "parent": "operatorImage" }] });
    let alias = json!({ "alias": "wasm", "condition": "wasm.enabled" });
    let exported = json!({ "import-values": ["shared"] });
    let global = json!({ "registry": "mirror.example", "ofTheParent": { "team": "a" } });
    for (dependency, values) in [
        (
            &condition,
            json!({ "wasmedge-operator": { "enabled": true, "replicas": 3 }, "global": global }),
        ),
        (
            &tagged,
            json!({ "wasmedge-operator": { "replicas": 3 }, "tags": { "wasm": true },
                "global": global }),
        ),
        (
            &tagged,
            json!({ "wasmedge-operator": { "replicas": 3, "tags": { "wasm": true } },
                "tags": { "wasm": true }, "global": global }),
        ),
        (
            &alias,
            json!({ "wasm": { "enabled": true, "replicas": 3 }, "global": global }),
        ),
        (
            &exported,
            json!({ "wasmedge-operator": { "replicas": 3, "exports": { "shared": { "a": 1 } } },
                "global": global }),
        ),
    ] {
        let text = render(subject, dependency, &values)
            .with_context(|| format!("{dependency} with {values}"))?;
        for part in [
            "\nkind: Deployment\n",
            "\n  replicas: 3\n",
            "image: mirror.example/wasmedge-operator:",
            "\nkind: WasmRuntime\n",
        ] {
            ensure!(
                text.contains(part),
                "{dependency} with {values}: {part:?} is missing in {text}"
            );
        }
    }
    Ok(Verdict::Holds)
}

fn chart_is_left_out_where_its_condition_is_false(subject: &Subject) -> Result<Verdict> {
    let condition = json!({ "condition": "wasmedge-operator.enabled" });
    let text = render(
        subject,
        &condition,
        &json!({ "wasmedge-operator": { "enabled": false } }),
    )?;
    ensure!(!text.contains("kind:"), "{text}");
    Ok(Verdict::Holds)
}
