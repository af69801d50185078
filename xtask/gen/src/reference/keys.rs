//! `docs/reference/keys.md`: every name that the operator writes or reads, and every word that it
//! says.

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
Every label, annotation and finalizer of the operator, and every word that its objects say of
themselves. What scripts and
alerts may rely on stands here.";

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
        "## Reasons of installers\n\nWhy an installer ended as it did, in `status.reason` of a \
         WasmRuntimeNode, in Events and in \
         conditions. What passes by itself is tried again by itself; for everything else the spec \
         or the node has to change, or \
         the annotation `{}` to be set.\n\n{}",
        wasmedge_operator::names::RETRY_ANNOTATION,
        installer_reasons()?
    );
    Ok(super::page("keys", "Keys and words", &text))
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

/// Names that are no keys: parts of them, and those of objects and programs.
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
        "the phases in the code are other ones than it knows: {found:?}"
    );
    Ok(found)
}

fn installer_reasons() -> Result<String> {
    let found = variants(REPORT, "Reason");
    let names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    ensure!(
        found.iter().map(|reason| reason.name.as_str()).eq(names),
        "the reasons in the code are other ones than it knows: {found:?}"
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
        &["reason", "meaning", "tried again"],
        found.into_iter().zip(Reason::ALL).map(row),
    ))
}
