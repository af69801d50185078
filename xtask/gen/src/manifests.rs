//! Files of the chart that are generated from the operator's code: CRDs, and rules of the roles.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use wasmedge_operator::access::{self, Right, Scope};
use wasmedge_operator::crd;

use crate::{Generated, yaml};

const CHART: &str = "charts/wasmedge-operator";

/// Returns one file for each CRD. Helm installs the files of a chart's folder `crds` once, and
/// never updates them.
pub(crate) fn crds() -> Result<Vec<Generated>> {
    let mut files = Vec::new();
    for crd in crd::definitions() {
        let name = crd
            .metadata
            .name
            .as_deref()
            .context("the derived CRD has no name")?;
        let plural = name.split('.').next().unwrap_or(name);
        let value =
            serde_json::to_value(&crd).with_context(|| format!("write the CRD {name} as JSON"))?;
        files.push(Generated::yaml(
            format!("{CHART}/crds/{plural}.yaml"),
            &yaml::to_text(&value),
        ));
    }
    Ok(files)
}

/// Returns the rules of each role: the operator's in the cluster and in its namespace, and those of
/// the chart's hooks.
pub(crate) fn rules() -> Result<Vec<Generated>> {
    let tables = [
        ("cluster", access::OPERATOR, Scope::Cluster),
        ("namespaced", access::OPERATOR, Scope::Namespace),
        ("crds-hook", access::CRDS_HOOK, Scope::Cluster),
        ("remove-hook", access::REMOVE_HOOK, Scope::Cluster),
    ];
    let file = |(name, table, scope)| {
        Ok(Generated::yaml(
            format!("{CHART}/files/{name}-rules.yaml"),
            &table_text(table, scope)?,
        ))
    };
    tables.into_iter().map(file).collect()
}

fn table_text(table: &'static [Right], scope: Scope) -> Result<String> {
    let mut text = String::new();
    for right in access::within(table, scope) {
        let rule = serde_json::to_value(vec![right.rule()]).context("write a rule as JSON")?;
        let _ = write!(text, "# {}\n{}", right.why, yaml::to_text(&rule));
    }
    Ok(text)
}
