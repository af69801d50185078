//! `docs/reference/metrics.md`: every metric that the operator serves.

use wasmedge_operator::metrics;

use super::table;
use crate::Generated;

const INTRODUCTION: &str = "\
What the operator serves at `/metrics`, in the text format of OpenMetrics. Of several replicas only
the one that leads counts reconciles, nodes and installers. A counter's series is there before it
counts, as far as its labels are known
beforehand.";

pub(super) fn page() -> Generated {
    // Without backticks: such a word in them would be taken for the name of a test.
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
