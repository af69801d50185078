//! Upgrade from the last release to this chart: the admin's values are still accepted, and no
//! immutable field changes.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use testbed::command::Run;

use crate::subject::{Subject, cases_in};
use crate::{Verdict, tests};

tests!(the_last_releases_values_and_objects_can_be_upgraded);

fn the_last_releases_values_and_objects_can_be_upgraded(subject: &Subject) -> Result<Verdict> {
    let git = || {
        Run::new("git")
            .args(["-c", "safe.directory=*"])
            .current_dir(&subject.chart)
    };
    let described = git()
        .args(["describe", "--tags", "--abbrev=0", "--match", "v*"])
        .output()?;
    if !described.status.success() {
        return Ok(Verdict::Ignored(
            "there is no release yet: no tag v* in this repository".to_owned(),
        ));
    }
    let tag = String::from_utf8_lossy(&described.stdout).trim().to_owned();
    let folder = tempfile::tempdir().context("make a folder for the last release's chart")?;
    let archive = folder.path().join("chart.tar");
    git()
        .args(["archive", "--output"])
        .arg(&archive)
        .arg(format!("{tag}:./"))
        .done()?;
    Run::new("tar")
        .arg("--extract")
        .arg("--file")
        .arg(&archive)
        .arg("--directory")
        .arg(folder.path())
        .done()?;
    for case in cases_in(folder.path())? {
        let old = subject.helm.render(folder.path(), Some(&case.file))?;
        let new = subject
            .render(&case.file)
            .with_context(|| format!("values of {tag}'s case {} are not accepted", case.name))?;
        unchanged(&old, &new).with_context(|| {
            format!(
                "an upgrade from {tag} with its case {} is impossible",
                case.name
            )
        })?;
    }
    Ok(Verdict::Holds)
}

/// Fails if an object of both releases differs in an immutable field.
fn unchanged(old: &str, new: &str) -> Result<()> {
    let new = fixed_parts(new);
    for (object, part) in fixed_parts(old) {
        let now = new.get(&object).unwrap_or(&part);
        ensure!(*now == part, "{object}: {part:?} became {now:?}");
    }
    Ok(())
}

/// Returns a Deployment's selector and a binding's role, by object.
fn fixed_parts(rendered: &str) -> BTreeMap<String, Vec<String>> {
    let mut parts = BTreeMap::new();
    for document in rendered.split("\n---\n") {
        let after = |key: &str| {
            document
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .map(str::to_owned)
        };
        let (Some(kind), Some(name)) = (after("kind: "), after("  name: ")) else {
            continue;
        };
        let Some(block) = (match kind.as_str() {
            "Deployment" => Some("  selector:"),
            "ClusterRoleBinding" | "RoleBinding" => Some("roleRef:"),
            _ => None,
        }) else {
            continue;
        };
        let depth = indent(block);
        let lines = document
            .lines()
            .skip_while(|line| *line != block)
            .skip(1)
            .take_while(|line| indent(line) > depth);
        parts.insert(format!("{kind} {name}"), lines.map(str::to_owned).collect());
    }
    parts
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}
