//! `crds apply` and `crds print`: the definitions of the API.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::crd::definitions;
use crate::names;

/// Timeout for the API server to serve a definition.
const SERVE_TIMEOUT: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Applies the definitions to the cluster, and waits until they are served.
///
/// # Errors
/// If the API server refuses one, or does not serve it in time.
pub async fn apply(client: Client) -> Result<()> {
    let api = Api::<CustomResourceDefinition>::all(client);
    let params = PatchParams::apply(names::MANAGER).force();
    for definition in definitions() {
        let name = definition.name_any();
        api.patch(&name, &params, &Patch::Apply(&definition))
            .await
            .with_context(|| format!("apply CustomResourceDefinition {name}"))?;
        tracing::info!(name, "applied the CustomResourceDefinition");
    }
    let deadline = Instant::now() + SERVE_TIMEOUT;
    for definition in definitions() {
        wait(&api, &definition.name_any(), deadline).await?;
    }
    Ok(())
}

/// Prints the definitions as one object for `kubectl apply`.
///
/// # Errors
/// If the output is closed.
pub fn print(output: &mut impl Write) -> Result<()> {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": definitions() });
    serde_json::to_writer_pretty(&mut *output, &list).context("print the definitions")?;
    output.write_all(b"\n").context("print the definitions")
}

async fn wait(api: &Api<CustomResourceDefinition>, name: &str, deadline: Instant) -> Result<()> {
    loop {
        let found = api
            .get(name)
            .await
            .with_context(|| format!("read CustomResourceDefinition {name}"))?;
        let Some(obstacle) = obstacle(&found) else {
            tracing::info!(name, "the CustomResourceDefinition is served");
            return Ok(());
        };
        if Instant::now() >= deadline {
            bail!(
                "CustomResourceDefinition {name} is not served after {} s: {obstacle}",
                SERVE_TIMEOUT.as_secs()
            );
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Returns what keeps a definition from being served, if it is not.
fn obstacle(definition: &CustomResourceDefinition) -> Option<String> {
    let conditions = definition
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let status = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
    let text = |kind: &str| {
        let condition = status(kind)?;
        let message = condition
            .message
            .as_deref()
            .or(condition.reason.as_deref())
            .unwrap_or("no reason given");
        Some(format!("{kind} is {}: {message}", condition.status))
    };
    if status("Established").is_some_and(|condition| condition.status == "True") {
        return None;
    }
    let refused = status("NamesAccepted").is_some_and(|condition| condition.status == "False");
    let evidence = if refused {
        text("NamesAccepted")
    } else {
        text("Established")
    };
    Some(evidence.unwrap_or_else(|| "its status has no conditions yet".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(conditions: &serde_json::Value) -> CustomResourceDefinition {
        let [mut definition, _] = definitions();
        let status = json!({ "conditions": conditions, "acceptedNames": { "kind": "",
            "plural": "" }, "storedVersions": [] });
        definition.status = Some(serde_json::from_value(status).unwrap());
        definition
    }

    #[test]
    fn definition_is_served_when_it_is_established() {
        assert_eq!(
            obstacle(&definition(
                &json!([{ "type": "Established", "status": "True" }])
            )),
            None
        );
        assert_eq!(
            obstacle(&definitions()[0]).unwrap(),
            "its status has no conditions yet"
        );
    }

    #[test]
    fn name_conflict_of_definition_is_reported() {
        let taken = json!([
            { "type": "Established", "status": "False", "reason": "NotAccepted",
            "message": "not all names are accepted" },
            { "type": "NamesAccepted", "status": "False", "reason": "ShortNamesConflict",
            "message": "\"wrt\" is already in use" },
        ]);
        assert_eq!(
            obstacle(&definition(&taken)).unwrap(),
            "NamesAccepted is False: \"wrt\" is already in use"
        );
    }

    #[test]
    fn printed_definitions_are_a_list_object() {
        let mut text = Vec::new();
        print(&mut text).unwrap();
        let list: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let kinds: Vec<_> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["spec"]["names"]["kind"].clone())
            .collect();
        assert_eq!(kinds, ["WasmRuntime", "WasmRuntimeNode"]);
        assert_eq!(list["items"][0]["kind"], "CustomResourceDefinition");
    }
}
