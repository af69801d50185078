//! `docs/reference/keys.md`: every name that the operator writes or reads, and every condition,
//! phase and reason.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use installer_protocol::report::{Reason, Retry};
use wasmedge_operator::crd::Phase;

use super::source::{Constant, Variant, constants, variants};
use super::table;
use crate::Generated;

const NAMES: &str = include_str!("../../../../operator/src/names.rs");
const NODE: &str = include_str!("../../../../operator/src/crd/node.rs");
const STATUS: &str = include_str!("../../../../operator/src/crd/status.rs");
const REPORT: &str = include_str!("../../../../installer/protocol/src/report.rs");

const INTRODUCTION: &str = "\
Every label, annotation and finalizer of the operator, and every condition, phase and reason of its
objects. Scripts and alerts can rely on these names.";

pub(super) fn page() -> Result<Generated> {
    let mut text = format!("{INTRODUCTION}\n\n");
    let _ = write!(text, "## Labels, annotations, finalizers\n\n{}\n", names());
    let conditions = variants(STATUS, "ConditionType");
    let _ = write!(
        text,
        "## Conditions of a WasmRuntime\n\n{}\n",
        words("condition", &conditions)
    );
    let reasons = variants(STATUS, "ConditionReason");
    let _ = write!(
        text,
        "Their reasons, beside those of installers:\n\n{}\n## Phases of a WasmRuntimeNode\n\n{}\n",
        words("reason", &reasons),
        words("phase", &phases()?)
    );
    let _ = write!(
        text,
        "## Reasons of installers\n\nThe result of an installer, in `status.reason` of a \
         WasmRuntimeNode, in Events and in\nconditions. The operator retries temporary failures. \
         After any other failure, change the spec or\nthe node, or set the annotation \
         `{}`.\n\n{}",
        wasmedge_operator::names::RETRY_ANNOTATION,
        installer_reasons()?
    );
    Ok(super::page("keys", "Labels, conditions and reasons", &text))
}

fn names() -> String {
    let mut rows: Vec<Vec<String>> = constants(NAMES)
        .into_iter()
        .filter(is_key)
        .map(|Constant { value, comment, .. }| vec![format!("`{value}`"), comment])
        .collect();
    let ready = wasmedge_operator::names::ready_label("NAME");
    rows.insert(
        0,
        vec![
            format!("`{ready}: {}`", wasmedge_operator::names::READY),
            "Label of nodes on which the WasmRuntime NAME works; its RuntimeClass selects it."
                .to_owned(),
        ],
    );
    table(&["key", "meaning"], rows)
}

/// Returns false for names that are not keys: parts of keys, names of objects and of programs.
fn is_key(constant: &Constant) -> bool {
    constant.value.contains('/') && constant.name != "CONTROLLER"
}

fn words(head: &str, variants: &[Variant]) -> String {
    table(
        &[head, "meaning"],
        variants
            .iter()
            .map(|Variant { name, comment }| vec![name.clone(), comment.clone()]),
    )
}

fn phases() -> Result<Vec<Variant>> {
    let found = variants(NODE, "Phase");
    let names: Vec<&str> = Phase::ALL.iter().map(|phase| phase.as_str()).collect();
    ensure!(
        found.iter().map(|phase| phase.name.as_str()).eq(names),
        "Phase::ALL is not the list of variants: {found:?}"
    );
    Ok(found)
}

fn installer_reasons() -> Result<String> {
    let found = variants(REPORT, "Reason");
    let names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    ensure!(
        found.iter().map(|reason| reason.name.as_str()).eq(names),
        "Reason::ALL is not the list of variants: {found:?}"
    );
    let row = |(Variant { name, comment }, reason): (Variant, &Reason)| {
        let retry = match (reason, reason.retry()) {
            (Reason::Done, _) => "",
            (_, Retry::Later) => "yes",
            (_, Retry::Never) => "no",
        };
        vec![name, comment, retry.to_owned()]
    };
    Ok(table(
        &["reason", "meaning", "retried"],
        found.into_iter().zip(Reason::ALL).map(row),
    ))
}
