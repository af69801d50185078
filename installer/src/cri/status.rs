//! What containerd's answer to `Status` says.

use std::collections::{BTreeMap, BTreeSet};

use installer_protocol::CgroupDriver;
use installer_protocol::layout::parent;
use serde::Deserialize;

use super::message::{self, StatusResponse};
use crate::detect;

/// What containerd serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Whether it can run containers (condition `RuntimeReady`).
    pub runtime: Readiness,
    /// Its handlers.
    pub handlers: Handlers,
}

/// Whether containerd can run containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot; its reason and message.
    NotReady(String),
}

/// The names that containerd knows runtimes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handlers {
    /// These and no others. Every configured one is listed, also one whose program is missing.
    Listed(BTreeSet<String>),
    /// containerd does not say; why.
    Unanswerable(String),
}

impl Handlers {
    /// Whether `handler` is served, if containerd says at all.
    pub fn has(&self, handler: &str) -> Option<bool> {
        match self {
            Self::Listed(names) => Some(names.contains(handler)),
            Self::Unanswerable(_) => None,
        }
    }
}

/// Of the CRI plugin's settings, which containerd tells as JSON, what is looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    containerd: Runtimes,
    /// The plugin's own folder in containerd's state folder.
    #[serde(default)]
    state_dir: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Runtimes {
    #[serde(default)]
    default_runtime_name: String,
    runtimes: BTreeMap<String, Runtime>,
}

#[derive(Debug, Deserialize)]
struct Runtime {
    /// Its program; empty where the type alone names it.
    #[serde(default, rename = "runtimePath")]
    path: String,
    #[serde(default, rename = "runtimeType")]
    kind: String,
    /// `null` where there is none.
    #[serde(default)]
    options: Option<BTreeMap<String, serde_json::Value>>,
}

/// What an answer says.
pub(super) fn served(answer: &StatusResponse) -> Served {
    Served {
        runtime: readiness(answer),
        handlers: handlers(answer),
    }
}

/// What containerd was configured with; none where it does not publish that.
pub(super) fn configured(answer: &StatusResponse) -> Option<detect::Settings> {
    let Settings {
        containerd:
            Runtimes {
                default_runtime_name: default,
                runtimes,
            },
        state_dir,
    } = settings(answer).ok()?;
    let launcher = |runtime: Runtime| {
        if runtime.path.is_empty() {
            runtime.kind
        } else {
            runtime.path
        }
    };
    Some(detect::Settings {
        state: (!state_dir.is_empty()).then(|| parent(&state_dir).to_owned()),
        default,
        launchers: runtimes
            .into_iter()
            .map(|(name, runtime)| (name, launcher(runtime)))
            .collect(),
    })
}

/// Who sets up the cgroups of `handler`'s containers, if the answer says so.
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

fn readiness(answer: &StatusResponse) -> Readiness {
    let conditions = answer.status.iter().flat_map(|status| &status.conditions);
    match conditions
        .into_iter()
        .find(|condition| condition.r#type == "RuntimeReady")
    {
        Some(message::RuntimeCondition { status: true, .. }) => Readiness::Ready,
        Some(condition) => {
            Readiness::NotReady(format!("{}: {}", condition.reason, condition.message))
        }
        None => Readiness::NotReady("it does not say whether it can run containers".to_owned()),
    }
}

/// containerd 2.0 and later lists them; older ones tell their whole settings.
fn handlers(answer: &StatusResponse) -> Handlers {
    // The default one is listed a second time, without a name.
    let listed: BTreeSet<String> = answer
        .runtime_handlers
        .iter()
        .map(|handler| handler.name.clone())
        .filter(|name| !name.is_empty())
        .collect();
    if !listed.is_empty() {
        return Handlers::Listed(listed);
    }
    match settings(answer) {
        Ok(settings) => Handlers::Listed(settings.containerd.runtimes.into_keys().collect()),
        Err(why) => Handlers::Unanswerable(why),
    }
}

fn settings(answer: &StatusResponse) -> Result<Settings, String> {
    let text = answer
        .info
        .get("config")
        .ok_or("containerd tells neither its handlers nor its settings")?;
    serde_json::from_str(text)
        .map_err(|error| format!("containerd's settings cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::message::{RuntimeCondition, RuntimeHandler, RuntimeStatus};

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
                })
                .collect(),
        }
    }

    const CONFIG: &str = r#"{"stateDir":"/run/other/io.containerd.grpc.v1.cri","containerd":{"defaultRuntimeName":"runc","runtimes":{
        "runc":{"runtimeType":"io.containerd.runc.v2","runtimePath":"","options":null},
        "wasmedge":{"runtimeType":"io.containerd.wasmedge.v1","runtimePath":"/opt/x","options":{"SystemdCgroup":true}},"other":{"options":{"SystemdCgroup":false}}}},"cni":{}}"#;

    #[test]
    fn a_network_that_is_not_ready_does_not_matter() {
        let answer = answer(
            vec![
                condition("NetworkReady", false),
                condition("RuntimeReady", true),
            ],
            &["runc"],
            None,
        );
        assert_eq!(served(&answer).runtime, Readiness::Ready);
    }

    #[test]
    fn a_runtime_that_is_not_ready_says_why() {
        let unready = answer(vec![condition("RuntimeReady", false)], &[], None);
        assert_eq!(
            served(&unready).runtime,
            Readiness::NotReady("why: what".to_owned())
        );
        assert!(matches!(
            served(&answer(vec![], &[], None)).runtime,
            Readiness::NotReady(_)
        ));
    }

    #[test]
    fn what_containerd_lists_is_believed() {
        let handlers = served(&answer(vec![], &["", "runc", "wasmedge"], Some("no JSON"))).handlers;
        assert_eq!(
            handlers,
            Handlers::Listed(["runc", "wasmedge"].map(str::to_owned).into())
        );
        assert_eq!(
            (handlers.has("wasmedge"), handlers.has("wasm")),
            (Some(true), Some(false))
        );
    }

    #[test]
    fn an_old_containerds_settings_name_its_handlers() {
        let handlers = served(&answer(vec![], &[], Some(CONFIG))).handlers;
        assert_eq!(
            handlers,
            Handlers::Listed(["other", "runc", "wasmedge"].map(str::to_owned).into())
        );
    }

    #[test]
    fn a_containerd_that_does_not_say_is_not_taken_for_one_without_handlers() {
        for config in [None, Some("{}"), Some("[")] {
            let handlers = served(&answer(vec![], &[], config)).handlers;
            assert!(
                matches!(handlers, Handlers::Unanswerable(_)),
                "{handlers:?}"
            );
            assert_eq!(handlers.has("runc"), None);
        }
    }

    #[test]
    fn a_handlers_settings_tell_its_driver() {
        let answer = answer(vec![], &[], Some(CONFIG));
        assert_eq!(driver(&answer, "wasmedge"), Some(CgroupDriver::Systemd));
        assert_eq!(driver(&answer, "other"), Some(CgroupDriver::Cgroupfs));
        assert_eq!(
            (driver(&answer, "runc"), driver(&answer, "none")),
            (None, None)
        );
    }

    #[test]
    fn settings_tell_the_state_folder_and_each_handlers_program() {
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
