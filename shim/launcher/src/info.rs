//! Name, version and features, returned before anything else is done: containerd 2.2 and later
//! request them with every task, and a shim that fails here makes each start three times slower.

use anyhow::{Context as _, Result};
use shim_protocol::features::MOUNT_OPTIONS;
use shim_protocol::wire::{Message, fields};

/// The runtime's name in containerd.
const RUNTIME: &str = "io.containerd.wasmedge.v1";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit of a build for a bundle.
const REVISION: Option<&str> = option_env!("WASMEDGE_RUNTIME_REVISION");

/// The type name by which containerd parses [`FEATURES`], as JSON.
const FEATURES_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";
/// The features of the runtime in the form of the OCI runtime spec ("Features Structure"). Without
/// the user namespace and idmapped mounts kubelet runs no pod with `hostUsers: false`, and
/// containerd does not map the owners of volumes.
const FEATURES: &str = r#"{"ociVersionMin":"1.0.0","ociVersionMax":"1.3.0","linux":{"namespaces":["cgroup","ipc","mount","network","pid","user","uts"],"mountExtensions":{"idmap":{"enabled":true}}}}"#;
/// The features without user namespaces.
const FEATURES_WITHOUT_USERS: &str = r#"{"ociVersionMin":"1.0.0","ociVersionMax":"1.3.0","linux":{"namespaces":["cgroup","ipc","mount","network","pid","uts"],"mountExtensions":{"idmap":{"enabled":false}}}}"#;
/// The type of the options of a handler that has any. containerd 2.4 creates no container with a
/// user namespace for such a handler: it passes the owner of the streams only in runc's options.
const OPTIONS_TYPE: &str = "runtimeoptions.v1.Options";

/// Encodes containerd's `RuntimeInfo { name = 1, RuntimeVersion { version = 1, revision = 2 }
/// version = 2, Any features = 4 }`. `input` is the `Any { type_url = 1, value = 2 }` of the
/// handler's options, empty if it has none.
pub(crate) fn for_containerd(input: &[u8]) -> Result<Vec<u8>> {
    let given = fields(input).context("read the runtime options on standard input")?;
    let has_options = given
        .iter()
        .any(|field| field.number == 1 && field.value.text() == Some(OPTIONS_TYPE));
    let features = if has_options {
        FEATURES_WITHOUT_USERS
    } else {
        FEATURES
    };
    let version = Message::default()
        .text(1, VERSION)
        .text(2, REVISION.unwrap_or_default());
    let features = Message::default()
        .text(1, FEATURES_TYPE)
        .text(2, &with_mount_options(features));
    Ok(Message::default()
        .text(1, RUNTIME)
        .message(2, &version)
        .message(4, &features)
        .into_bytes())
}

/// Adds the mount options that guests and native containers support. Without `rro` among them,
/// containerd and kubelet refuse volumes with `recursiveReadOnly: Enabled`.
fn with_mount_options(features: &str) -> String {
    let options = MOUNT_OPTIONS.map(|option| format!("{option:?}")).join(",");
    features.replacen('{', &format!(r#"{{"mountOptions":[{options}],"#), 1)
}

/// Returns three lines for `-v`.
pub(crate) fn for_people() -> Vec<u8> {
    format!(
        "containerd-shim-wasmedge-v1:\n  Version:  {VERSION}\n  Revision: {}\n",
        REVISION.unwrap_or("unknown")
    )
    .into_bytes()
}

/// Returns a text that differs between builds that must not share a host.
pub(crate) fn build() -> String {
    format!("{VERSION} {}", REVISION.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::protobuf::Message as _;
    use containerd_shim_protos::types::introspection::RuntimeInfo;

    use super::*;

    #[test]
    fn runtime_info_has_name_version_and_features() {
        let info = RuntimeInfo::parse_from_bytes(&for_containerd(&[]).unwrap()).unwrap();
        assert_eq!(
            (info.name.as_str(), info.version.version.as_str()),
            (RUNTIME, VERSION)
        );
        assert_eq!(info.features.type_url, FEATURES_TYPE);
        let features: serde_json::Value = serde_json::from_slice(&info.features.value).unwrap();
        assert!(
            features["linux"]["namespaces"]
                .as_array()
                .unwrap()
                .contains(&"user".into())
        );
        assert_eq!(
            features["linux"]["mountExtensions"]["idmap"]["enabled"],
            true
        );
        let options = features["mountOptions"].as_array().unwrap();
        assert!(
            options.len() == MOUNT_OPTIONS.len() && options.contains(&"rro".into()),
            "{options:?}"
        );
    }

    #[test]
    fn user_namespaces_are_a_feature_only_without_an_options_table() {
        let said = |options: Message| {
            let info =
                RuntimeInfo::parse_from_bytes(&for_containerd(&options.into_bytes()).unwrap())
                    .unwrap();
            let features: serde_json::Value = serde_json::from_slice(&info.features.value).unwrap();
            let namespace = features["linux"]["namespaces"]
                .as_array()
                .unwrap()
                .contains(&"user".into());
            (
                namespace,
                features["linux"]["mountExtensions"]["idmap"]["enabled"]
                    .as_bool()
                    .unwrap(),
            )
        };
        // The options of a handler with a table, and those that containerd sends with a container
        // of a pod with a user namespace.
        let table = Message::default()
            .text(1, OPTIONS_TYPE)
            .text(2, "SystemdCgroup = true");
        let owner_of_streams = Message::default().text(1, "containerd.runc.v1.Options");
        assert_eq!(
            (said(table), said(owner_of_streams)),
            ((false, false), (true, true))
        );
        for_containerd(&[0xff]).unwrap_err();
    }
}
