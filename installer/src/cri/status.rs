//! The content of containerd's answer to `Status`.

use std::collections::{BTreeMap, BTreeSet};

use cri_client::message::{self, StatusResponse};
use installer_protocol::CgroupDriver;
use installer_protocol::layout::parent;
use serde::Deserialize;

use crate::containers;

/// The status of containerd's CRI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CriStatus {
    /// Whether it can run containers (condition `RuntimeReady`).
    pub runtime: RuntimeReadiness,
    /// The handlers.
    pub handlers: ServedHandlers,
}

/// Whether containerd can run containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeReadiness {
    /// It can.
    Ready,
    /// It cannot; its reason and message.
    NotReady(String),
}

/// The handlers of a containerd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServedHandlers {
    /// These and no others: every configured one, even if its program is missing.
    Listed(BTreeSet<String>),
    /// containerd does not publish them; the cause.
    Unanswerable(String),
}

impl ServedHandlers {
    /// Returns whether `handler` is served; none if containerd does not publish its handlers.
    pub fn has(&self, handler: &str) -> Option<bool> {
        match self {
            Self::Listed(names) => Some(names.contains(handler)),
            Self::Unanswerable(_) => None,
        }
    }
}

/// The used parts of the CRI plugin's configuration, which containerd publishes as JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PluginSettings {
    containerd: RuntimesSection,
    /// The plugin's own folder in containerd's state folder.
    #[serde(default)]
    state_dir: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuntimesSection {
    #[serde(default)]
    default_runtime_name: String,
    runtimes: BTreeMap<String, RuntimeSection>,
}

#[derive(Debug, Deserialize)]
struct RuntimeSection {
    /// The program; empty if the type names it.
    #[serde(default, rename = "runtimePath")]
    path: String,
    #[serde(default, rename = "runtimeType")]
    kind: String,
    /// `null` if there are none.
    #[serde(default)]
    options: Option<BTreeMap<String, serde_json::Value>>,
}

/// Returns the status in an answer.
pub(super) fn served(answer: &StatusResponse) -> CriStatus {
    CriStatus {
        runtime: readiness(answer),
        handlers: handlers(answer),
    }
}

/// Returns containerd's configuration; none if it is not published.
pub(super) fn configured(answer: &StatusResponse) -> Option<containers::ContainerdSettings> {
    let PluginSettings {
        containerd:
            RuntimesSection {
                default_runtime_name: default,
                runtimes,
            },
        state_dir,
    } = settings(answer).ok()?;
    let launcher = |runtime: RuntimeSection| {
        if runtime.path.is_empty() {
            runtime.kind
        } else {
            runtime.path
        }
    };
    Some(containers::ContainerdSettings {
        state: (!state_dir.is_empty()).then(|| parent(&state_dir).to_owned()),
        default,
        launchers: runtimes
            .into_iter()
            .map(|(name, runtime)| (name, launcher(runtime)))
            .collect(),
    })
}

/// Returns the cgroup driver of `handler`, if it is published.
pub(super) fn driver(answer: &StatusResponse, handler: &str) -> Option<CgroupDriver> {
    let runtimes = settings(answer).ok()?.containerd.runtimes;
    let is_systemd = runtimes
        .get(handler)?
        .options
        .as_ref()?
        .get("SystemdCgroup")?
        .as_bool()?;
    Some(if is_systemd {
        CgroupDriver::Systemd
    } else {
        CgroupDriver::Cgroupfs
    })
}

fn readiness(answer: &StatusResponse) -> RuntimeReadiness {
    let conditions = answer.status.iter().flat_map(|status| &status.conditions);
    match conditions
        .into_iter()
        .find(|condition| condition.r#type == "RuntimeReady")
    {
        Some(message::RuntimeCondition { status: true, .. }) => RuntimeReadiness::Ready,
        Some(condition) => {
            RuntimeReadiness::NotReady(format!("{}: {}", condition.reason, condition.message))
        }
        None => RuntimeReadiness::NotReady("its status has no condition RuntimeReady".to_owned()),
    }
}

/// Returns the handlers: containerd 2.0 and later lists them; older ones publish their
/// configuration.
fn handlers(answer: &StatusResponse) -> ServedHandlers {
    // The default one is listed a second time, without a name.
    let listed: BTreeSet<String> = answer
        .runtime_handlers
        .iter()
        .map(|handler| handler.name.clone())
        .filter(|name| !name.is_empty())
        .collect();
    if !listed.is_empty() {
        return ServedHandlers::Listed(listed);
    }
    match settings(answer) {
        Ok(settings) => ServedHandlers::Listed(settings.containerd.runtimes.into_keys().collect()),
        Err(why) => ServedHandlers::Unanswerable(why),
    }
}

fn settings(answer: &StatusResponse) -> Result<PluginSettings, String> {
    let text = answer
        .info
        .get("config")
        .ok_or("containerd publishes neither its handlers nor its configuration")?;
    serde_json::from_str(text)
        .map_err(|error| format!("containerd's configuration cannot be parsed: {error}"))
}

#[cfg(test)]
mod tests {
    use cri_client::message::{RuntimeCondition, RuntimeHandler, RuntimeStatus};

    use super::*;

    fn condition(r#type: &str, status: bool) -> RuntimeCondition {
        RuntimeCondition {
            r#type: r#type.to_owned(),
            status,
            reason: "why".to_owned(),
            message: "what".to_owned(),
        }
    }

    fn answer(
        conditions: Vec<RuntimeCondition>,
        handlers: &[&str],
        config: Option<&str>,
    ) -> StatusResponse {
        StatusResponse {
            status: Some(RuntimeStatus { conditions }),
            info: config
                .map(|text| ("config".to_owned(), text.to_owned()))
                .into_iter()
                .collect(),
            runtime_handlers: handlers
                .iter()
                .map(|name| RuntimeHandler {
                    name: (*name).to_owned(),
                    features: None,
                })
                .collect(),
        }
    }

    const CONFIG: &str = r#"{"stateDir":"/run/other/io.containerd.grpc.v1.cri","containerd":{"defaultRuntimeName":"runc","runtimes":{
        "runc":{"runtimeType":"io.containerd.runc.v2","runtimePath":"","options":null},
        "wasmedge":{"runtimeType":"io.containerd.wasmedge.v1","runtimePath":"/opt/x","options":{"SystemdCgroup":true}},"other":{"options":{"SystemdCgroup":false}}}},"cni":{}}"#;

    #[test]
    fn network_that_is_not_ready_does_not_matter() {
        let answer = answer(
            vec![
                condition("NetworkReady", false),
                condition("RuntimeReady", true),
            ],
            &["runc"],
            None,
        );
        assert_eq!(served(&answer).runtime, RuntimeReadiness::Ready);
    }

    #[test]
    fn runtime_that_is_not_ready_has_a_reason() {
        let unready = answer(vec![condition("RuntimeReady", false)], &[], None);
        assert_eq!(
            served(&unready).runtime,
            RuntimeReadiness::NotReady("why: what".to_owned())
        );
        assert!(matches!(
            served(&answer(vec![], &[], None)).runtime,
            RuntimeReadiness::NotReady(_)
        ));
    }

    #[test]
    fn listed_handlers_have_precedence() {
        let handlers = served(&answer(vec![], &["", "runc", "wasmedge"], Some("no JSON"))).handlers;
        assert_eq!(
            handlers,
            ServedHandlers::Listed(["runc", "wasmedge"].map(str::to_owned).into())
        );
        assert_eq!(
            (handlers.has("wasmedge"), handlers.has("wasm")),
            (Some(true), Some(false))
        );
    }

    #[test]
    fn configuration_of_an_old_containerd_names_its_handlers() {
        let handlers = served(&answer(vec![], &[], Some(CONFIG))).handlers;
        assert_eq!(
            handlers,
            ServedHandlers::Listed(["other", "runc", "wasmedge"].map(str::to_owned).into())
        );
    }

    #[test]
    fn containerd_without_answer_is_not_treated_as_one_without_handlers() {
        for config in [None, Some("{}"), Some("[")] {
            let handlers = served(&answer(vec![], &[], config)).handlers;
            assert!(
                matches!(handlers, ServedHandlers::Unanswerable(_)),
                "{handlers:?}"
            );
            assert_eq!(handlers.has("runc"), None);
        }
    }

    #[test]
    fn configuration_of_a_handler_has_its_cgroup_driver() {
        let answer = answer(vec![], &[], Some(CONFIG));
        assert_eq!(driver(&answer, "wasmedge"), Some(CgroupDriver::Systemd));
        assert_eq!(driver(&answer, "other"), Some(CgroupDriver::Cgroupfs));
        assert_eq!(
            (driver(&answer, "runc"), driver(&answer, "none")),
            (None, None)
        );
    }

    #[test]
    fn configuration_has_the_state_folder_and_each_handlers_program() {
        let settings = configured(&answer(vec![], &[], Some(CONFIG))).unwrap();
        assert_eq!(
            (settings.state.as_deref(), settings.default.as_str()),
            (Some("/run/other"), "runc")
        );
        assert_eq!(
            (
                settings.launchers["runc"].as_str(),
                settings.launchers["wasmedge"].as_str()
            ),
            ("io.containerd.runc.v2", "/opt/x")
        );
        let bare = configured(&answer(
            vec![],
            &[],
            Some(r#"{"containerd":{"runtimes":{}}}"#),
        ))
        .unwrap();
        assert_eq!(bare.state, None);
        assert_eq!(configured(&answer(vec![], &[], None)), None);
    }
}
