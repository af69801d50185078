//! The rendered chart, case by case, beside golden files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use testbed::helm::{NAMESPACE, RELEASE};

use crate::subject::{Case, Subject};
use crate::{Verdict, difference, tests};

tests!(
    chart_passes_helm_lint_with_every_case,
    every_case_renders_its_golden_file,
    every_golden_file_has_a_case,
    every_file_of_rules_is_in_a_role,
    chart_names_the_images_of_this_version,
    notes_after_an_installation_name_the_next_steps,
);

/// The case whose golden file is whole.
const DEFAULT: &str = "default";

fn chart_passes_helm_lint_with_every_case(subject: &Subject) -> Result<Verdict> {
    for case in subject.cases()? {
        let lint = subject
            .helm
            .run()
            .args(["lint", "--strict", "--quiet", "--values"])
            .arg(&case.file)
            .arg(&subject.chart);
        lint.done().with_context(|| format!("case {}", case.name))?;
    }
    Ok(Verdict::Holds)
}

fn every_case_renders_its_golden_file(subject: &Subject) -> Result<Verdict> {
    let mut different = Vec::new();
    let mut cases = subject.cases()?;
    // The other golden files are differences from the default one, so that is written first.
    cases.sort_by_key(|case| case.name != DEFAULT);
    for case in cases {
        different.extend(compare(subject, &case)?);
    }
    ensure!(
        different.is_empty(),
        "{}\nif this is intended, run the test with UPDATE_GOLDEN=1",
        different.join("\n")
    );
    Ok(Verdict::Holds)
}

/// Compares one case with its golden file, or writes that; returns the first difference.
fn compare(subject: &Subject, case: &Case) -> Result<Option<String>> {
    let rendered = render(subject, case)?;
    let golden = subject.chart.join(golden_file(&case.name));
    let default = subject.chart.join(golden_file(DEFAULT));
    let read =
        |file: &Path| fs::read_to_string(file).with_context(|| format!("read {}", file.display()));
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        let text = if case.name == DEFAULT {
            rendered
        } else {
            difference::make(&read(&default)?, &rendered)
                .with_context(|| format!("case {}", case.name))?
        };
        fs::write(&golden, text).with_context(|| format!("write {}", golden.display()))?;
        return Ok(None);
    }
    let expected = if case.name == DEFAULT {
        read(&golden)?
    } else {
        match difference::apply(&read(&default)?, &read(&golden)?) {
            Ok(expected) => expected,
            Err(error) => return Ok(Some(format!("case {}: {error:#}", case.name))),
        }
    };
    if rendered == expected {
        return Ok(None);
    }
    let lines = rendered
        .lines()
        .zip(expected.lines())
        .position(|(new, old)| new != old);
    let at = lines.unwrap_or_else(|| rendered.lines().count().min(expected.lines().count()));
    let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_owned();
    Ok(Some(format!(
        "case {}, rendered line {}: expected {:?}, rendered {:?}",
        case.name,
        at + 1,
        line(&expected),
        line(&rendered)
    )))
}

/// Renders a case. Rules are generated and change with the operator's code, so only the name of
/// their file remains.
fn render(subject: &Subject, case: &Case) -> Result<String> {
    let mut rendered = subject.render(&case.file)? + "\n";
    for (name, text) in rules(subject)? {
        rendered = rendered.replace(&text, &format!("  # files/{name}\n"));
    }
    Ok(rendered)
}

/// Returns the path of a case's golden file within the chart: the default case whole, every other
/// as its difference from that.
fn golden_file(case: &str) -> String {
    let kind = if case == DEFAULT { "yaml" } else { "diff" };
    format!("tests/golden/{case}.{kind}")
}

/// Returns the generated rules as a role contains them, with the name of their file.
fn rules(subject: &Subject) -> Result<Vec<(String, String)>> {
    let folder = subject.chart.join("files");
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        // The first line marks the file as generated.
        let lines: Vec<String> = text
            .lines()
            .skip(1)
            .map(|line| format!("  {line}"))
            .collect();
        found.push((name, lines.join("\n") + "\n"));
    }
    Ok(found)
}

fn every_file_of_rules_is_in_a_role(subject: &Subject) -> Result<Verdict> {
    let rendered = subject.render(&subject.chart.join("tests/cases/default.yaml"))?;
    for (name, text) in rules(subject)? {
        ensure!(
            rendered.contains(&format!("\nrules:\n{text}")),
            "no role has exactly the rules of files/{name}"
        );
    }
    Ok(Verdict::Holds)
}

fn every_golden_file_has_a_case(subject: &Subject) -> Result<Verdict> {
    let names: BTreeSet<String> = subject
        .cases()?
        .into_iter()
        .map(|case| golden_file(&case.name))
        .collect();
    let folder = subject.chart.join("tests/golden");
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        ensure!(
            names.contains(&format!("tests/golden/{name}")),
            "{name} is not the golden file of a case in tests/cases"
        );
    }
    Ok(Verdict::Holds)
}

fn chart_names_the_images_of_this_version(subject: &Subject) -> Result<Verdict> {
    let chart = fs::read_to_string(subject.chart.join("Chart.yaml")).context("read Chart.yaml")?;
    let version = env!("CARGO_PKG_VERSION");
    for line in [
        format!("version: {version}"),
        format!("appVersion: {version:?}"),
    ] {
        ensure!(
            chart.lines().any(|there| there == line),
            "Chart.yaml has no line {line:?}"
        );
    }
    Ok(Verdict::Holds)
}

fn notes_after_an_installation_name_the_next_steps(subject: &Subject) -> Result<Verdict> {
    for (case, expected) in [
        (
            "default",
            [
                "kubectl get wasmruntimes",
                "runtimeClassName: wasmedge`",
                "helm test wasmedge --namespace wasmedge-system",
            ],
        ),
        (
            "no-runtime",
            [
                "The values define no runtime",
                "kubectl explain wasmruntime.spec",
                "enforce=privileged",
            ],
        ),
        (
            "single",
            ["enforce=privileged", "waits at most 20m", "The CRDs stay"],
        ),
    ] {
        let values = subject
            .chart
            .join("tests/cases")
            .join(format!("{case}.yaml"));
        let install = subject.helm.run().args([
            "install",
            RELEASE,
            "--namespace",
            NAMESPACE,
            "--dry-run=client",
            "--values",
        ]);
        let text = install.arg(values).arg(&subject.chart).text()?;
        let Some((_, notes)) = text.split_once("NOTES:") else {
            bail!("case {case}: no notes in {text}")
        };
        for part in expected {
            ensure!(
                notes.contains(part),
                "case {case}: {part:?} is not in {notes}"
            );
        }
    }
    Ok(Verdict::Holds)
}
