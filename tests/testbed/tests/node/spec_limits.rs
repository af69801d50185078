//! Specs at the limits of their transport, and limits in specs that stop the engine.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::node::{Node, Verdict, expect, tests};
use crate::spec::Fixture;

tests![
    spec_larger_than_a_message_of_grpc_by_default_is_honoured,
    address_space_that_is_too_small_for_the_engine_is_named
];

fn spec_larger_than_a_message_of_grpc_by_default_is_honoured(node: &Node) -> Result<Verdict> {
    let mut fixture = Fixture::new(node)?;
    // containerd's record of the container holds it, and gRPC's clients read 4 MiB by default.
    fixture.spec["annotations"] = json!({ "large": "x".repeat(6 << 20) });
    expect(
        &fixture.container(&["args", "a"])?.run()?,
        0,
        "/app.wasm\nargs\na\n",
    )
}

fn address_space_that_is_too_small_for_the_engine_is_named(node: &Node) -> Result<Verdict> {
    // Too little for the address space that the engine reserves for a guest's memory.
    for limit in [8_u64 << 20, 64 << 20, 1 << 30] {
        let mut fixture = Fixture::new(node)?;
        fixture.spec["process"]["rlimits"] =
            json!([{ "type": "RLIMIT_AS", "soft": limit, "hard": limit }]);
        let finished = fixture.container(&["args", "a"])?.run()?;
        ensure!(finished.code != 0, "it ran in {limit} bytes");
        let expected = format!("RLIMIT_AS allows {limit} bytes");
        ensure!(
            finished.stderr.contains(&expected),
            "the limit of {limit} is not named: {}",
            finished.stderr
        );
    }
    Ok(Verdict::Holds)
}
