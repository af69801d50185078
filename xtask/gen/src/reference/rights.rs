//! `docs/reference/rights.md`: every right, from the tables that the roles are generated from.

use std::fmt::Write as _;

use wasmedge_operator::access::{CRDS_HOOK, OPERATOR, REMOVE_HOOK, Right, Scope};

use super::table;
use crate::Generated;

const INTRODUCTION: &str = "\
The rights of each service account of the chart at the API server; the chart's roles are generated
from the same tables. Installers, which are root on their node, have no rights and no token.";

pub(super) fn page() -> Generated {
    let mut text = format!("{INTRODUCTION}\n\n");
    for (title, rights) in [
        ("The operator", OPERATOR),
        ("The hook that applies the CRDs", CRDS_HOOK),
        (
            "The hook that removes the runtimes before `helm uninstall`",
            REMOVE_HOOK,
        ),
    ] {
        let rights = table(
            &["scope", "group", "resource", "verbs", "purpose"],
            rights.iter().map(row),
        );
        let _ = write!(text, "## {title}\n\n{rights}\n");
    }
    super::page("rights", "Rights", &text)
}

fn row(right: &Right) -> Vec<String> {
    let place = match right.scope {
        Scope::Cluster => "cluster",
        Scope::Namespace => "its namespace",
    };
    let only = right
        .names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    let resource = if only.is_empty() {
        right.resource.to_owned()
    } else {
        format!("{}: {only}", right.resource)
    };
    let group = if right.group.is_empty() {
        "core"
    } else {
        right.group
    };
    vec![
        place.to_owned(),
        group.to_owned(),
        resource,
        right.verbs.join(", "),
        right.why.to_owned(),
    ]
}
