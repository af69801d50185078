//! `docs/reference/metrics.md`: every metric that the operator serves.

use wasmedge_operator::metrics;

use super::table;
use crate::Generated;

const INTRODUCTION: &str = "\
The operator serves these metrics at `/metrics`, in the text format of OpenMetrics. If there are
several replicas, only the leader counts reconciles, nodes and installers. A counter is exposed with
the value 0 from the start if its labels are known in advance.";

pub(super) fn page() -> Generated {
    // Names are not in backticks: `cargo xtask tidy` would look for tests of these names.
    let rows = metrics::describe()
        .into_iter()
        .map(|(name, kind, help)| vec![name, kind.to_owned(), help.to_owned()]);
    super::page(
        "metrics",
        "Metrics",
        &format!(
            "{INTRODUCTION}\n\n{}",
            table(&["metric", "type", "meaning"], rows)
        ),
    )
}
