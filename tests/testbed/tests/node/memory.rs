//! Guests that memory cannot hold.

use anyhow::{Result, ensure};
use test_guests::RECURSE;

use crate::node::{Node, Verdict, tests};

tests![guest_that_calls_itself_without_end_traps_by_its_call_stack];

fn guest_that_calls_itself_without_end_traps_by_its_call_stack(node: &Node) -> Result<Verdict> {
    // Without a memory limit, and with one that the bound of the stack fits into.
    for limit in [None, Some("134217728")] {
        let container = node.guest(&RECURSE)?;
        let container = match limit {
            Some(bytes) => container.flag("--memory-limit").flag(bytes),
            None => container,
        };
        let finished = container.run()?;
        let said = finished.stderr.clone();
        ensure!(
            finished.code == 134 && said.contains("trap: call stack exhausted"),
            "limit {limit:?}: {} {said:?}",
            finished.code
        );
    }
    Ok(Verdict::Holds)
}
