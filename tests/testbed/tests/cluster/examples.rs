//! The examples: their pods, applied unchanged, print the expected output.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use testbed::cluster::End;
use testbed::examples::{ALL, Example};

use crate::fixture::{Namespace, tests};

tests![every_example_prints_its_expected_output];

fn every_example_prints_its_expected_output(namespace: &Namespace<'_>) -> Result<()> {
    for example in ALL {
        let manifest = fs::read_to_string(example.pod())
            .with_context(|| format!("read {}", example.pod().display()))?;
        namespace.cluster.apply(&namespace.name, &manifest)?;
    }
    ALL.iter().try_for_each(|example| {
        expect_output(namespace, example).with_context(|| format!("examples/{}", example.name))
    })
}

fn expect_output(namespace: &Namespace<'_>, example: &Example) -> Result<()> {
    let end = namespace.cluster.end_of(&namespace.name, example.name)?;
    let log = namespace
        .cluster
        .kubectl()
        .args(["--namespace", &namespace.name, "logs", example.name])
        .text()?;
    let expected = example.expected()?;
    ensure!(
        end == End::Succeeded && log == expected.trim_end(),
        "{end:?}; expected {expected:?}, the log is {log:?}"
    );
    Ok(())
}
