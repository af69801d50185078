//! Effects of values: some case sets each value, and renders differently without it.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value};

use crate::subject::Subject;
use crate::{Verdict, tests};

tests!(
    every_value_changes_the_rendered_chart,
    every_runtime_is_tried_by_helms_test,
    every_pod_of_the_chart_is_allowed_in_a_restricted_namespace
);

/// The path of a value, from the top.
type Path = Vec<String>;

fn every_value_changes_the_rendered_chart(subject: &Subject) -> Result<Verdict> {
    let defaults = leaves(&subject.read(&subject.chart.join("values.yaml"))?);
    let mut cases = Vec::new();
    for case in subject.cases()? {
        let overlay = subject.read(&case.file)?;
        cases.push((subject.render(&case.file)?, overlay));
    }
    let folder = tempfile::tempdir().context("make a folder for values")?;
    let file = folder.path().join("values.json");
    let mut idle = Vec::new();
    for (path, default) in &defaults {
        let mut works = false;
        for (rendered, overlay) in &cases {
            if find(overlay, path).is_none_or(|value| value == default) {
                continue;
            }
            let without = remove(overlay.clone(), path);
            fs::write(&file, without.to_string()).context("write values")?;
            works = subject.render(&file)? != *rendered;
            if works {
                break;
            }
        }
        if !works {
            idle.push(path.join("."));
        }
    }
    ensure!(
        idle.is_empty(),
        "no case shows the effect of these values: {}",
        idle.join(", ")
    );
    Ok(Verdict::Holds)
}

/// Returns every value that is not a map, with its path.
fn leaves(values: &Value) -> BTreeMap<Path, Value> {
    let mut found = BTreeMap::new();
    collect(values, &mut Path::new(), &mut found);
    found
}

fn collect(value: &Value, path: &mut Path, found: &mut BTreeMap<Path, Value>) {
    match value.as_object().filter(|map| !map.is_empty()) {
        None => drop(found.insert(path.clone(), value.clone())),
        Some(map) => {
            for (name, value) in map {
                path.push(name.clone());
                collect(value, path, found);
                path.pop();
            }
        }
    }
}

fn find<'a>(values: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter()
        .try_fold(values, |value, name| value.as_object()?.get(name))
}

/// Removes the value at `path` from `values`.
fn remove(mut values: Value, path: &[String]) -> Value {
    if let Some((last, parents)) = path.split_last() {
        let map = parents.iter().try_fold(&mut values, |value, name| {
            value.as_object_mut()?.get_mut(name)
        });
        map.and_then(Value::as_object_mut)
            .map(|map: &mut Map<String, Value>| map.remove(last));
    }
    values
}

fn every_runtime_is_tried_by_helms_test(subject: &Subject) -> Result<Verdict> {
    for case in subject.cases()? {
        let rendered = subject.render(&case.file)?;
        let runtimes = rendered.matches("\nkind: WasmRuntime\n").count();
        let tests = rendered.matches("\n    helm.sh/hook: test\n").count();
        ensure!(
            runtimes == tests,
            "case {}: {tests} tests for {runtimes} runtimes",
            case.name
        );
    }
    Ok(Verdict::Holds)
}

/// Checks all pods but the installers, which the chart does not create: they need paths of their
/// node.
fn every_pod_of_the_chart_is_allowed_in_a_restricted_namespace(
    subject: &Subject,
) -> Result<Verdict> {
    for case in subject.cases()? {
        let rendered = subject.render(&case.file)?;
        let mut pods = 0;
        for document in rendered.split("\n---\n") {
            if !["\nkind: Deployment\n", "\nkind: Job\n", "\nkind: Pod\n"]
                .iter()
                .any(|kind| document.contains(kind))
            {
                continue;
            }
            pods += 1;
            for demand in [
                "runAsNonRoot: true",
                "seccompProfile: {type: RuntimeDefault}",
                "allowPrivilegeEscalation: false",
                "readOnlyRootFilesystem: true",
                "capabilities: {drop: [ALL]}",
            ] {
                ensure!(
                    document.contains(demand),
                    "case {}: {demand} is missing in {document}",
                    case.name
                );
            }
            for offence in ["hostPath", "hostNetwork", "hostPID", "privileged: true"] {
                ensure!(
                    !document.contains(offence),
                    "case {}: {offence} in {document}",
                    case.name
                );
            }
        }
        // Every case has the operator and the hook that removes runtimes.
        ensure!(pods >= 2, "case {}: only {pods} pods were found", case.name);
    }
    Ok(Verdict::Holds)
}
