//! What the chart renders, case by case.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use testbed::helm::{NAMESPACE, RELEASE};

use crate::subject::{Case, Subject};
use crate::{Verdict, tests};

tests!(
    the_chart_passes_helms_own_check_with_every_case,
    every_case_renders_what_its_golden_file_says,
    every_golden_file_has_a_case,
    every_file_of_rules_is_in_a_role,
    the_chart_is_for_the_images_of_this_version,
    what_is_said_after_an_installation_names_the_next_steps,
);

fn the_chart_passes_helms_own_check_with_every_case(subject: &Subject) -> Result<Verdict> {
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

fn every_case_renders_what_its_golden_file_says(subject: &Subject) -> Result<Verdict> {
    let mut different = Vec::new();
    for case in subject.cases()? {
        different.extend(compare(subject, &case)?);
    }
    ensure!(
        different.is_empty(),
        "{}\nsee that it is meant, then run this with UPDATE_GOLDEN=1",
        different.join("\n")
    );
    Ok(Verdict::Holds)
}

fn compare(subject: &Subject, case: &Case) -> Result<Option<String>> {
    let mut rendered = subject.render(&case.file)? + "\n";
    // Rules are generated, and change with the operator's code: a golden file says only which of
    // them a role has.
    for (name, text) in rules(subject)? {
        rendered = rendered.replace(&text, &format!("  # files/{name}\n"));
    }
    let golden = subject
        .chart
        .join("tests/golden")
        .join(format!("{}.yaml", case.name));
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        fs::write(&golden, rendered).with_context(|| format!("write {}", golden.display()))?;
        return Ok(None);
    }
    let expected =
        fs::read_to_string(&golden).with_context(|| format!("read {}", golden.display()))?;
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
        "case {}, line {}: expected {:?}, rendered {:?}",
        case.name,
        at + 1,
        line(&expected),
        line(&rendered)
    )))
}

/// The generated rules as they stand in a role, by the name of their file.
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
        // The first line tells where the file is from.
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
        .map(|case| format!("{}.yaml", case.name))
        .collect();
    let folder = subject.chart.join("tests/golden");
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        ensure!(names.contains(&name), "{name} has no case in tests/cases");
    }
    Ok(Verdict::Holds)
}

fn the_chart_is_for_the_images_of_this_version(subject: &Subject) -> Result<Verdict> {
    let chart = fs::read_to_string(subject.chart.join("Chart.yaml")).context("read Chart.yaml")?;
    let version = env!("CARGO_PKG_VERSION");
    for line in [
        format!("version: {version}"),
        format!("appVersion: {version:?}"),
    ] {
        ensure!(
            chart.lines().any(|there| there == line),
            "Chart.yaml does not say {line}"
        );
    }
    Ok(Verdict::Holds)
}

fn what_is_said_after_an_installation_names_the_next_steps(subject: &Subject) -> Result<Verdict> {
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
                "No runtime was asked for",
                "kubectl explain wasmruntime.spec",
                "enforce=privileged",
            ],
        ),
        (
            "single",
            ["enforce=privileged", "waits 20m", "The CRDs stay"],
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
