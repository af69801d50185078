//! The paths of our drop-ins.

use installer_protocol::layout::{Configuration, parent};

/// Prefix of our drop-ins: files of other programs in the same folder have other names.
const PREFIX: &str = "wasmedge-runtime-";
/// Our own folder, used if the main file imports no suitable one.
const FOLDER: &str = "wasmedge-runtime.d";

/// Returns the folders in which our drop-ins may be.
pub(super) fn folders(main: &str, configuration: &Configuration) -> Vec<String> {
    match configuration {
        Configuration::MainFile => vec![own_folder(main)],
        Configuration::Rendered { v2, v3 } => vec![v2.clone(), v3.clone()],
        Configuration::Watched { folder } => vec![folder.clone()],
        Configuration::Template => Vec::new(),
    }
}

/// Returns the import of our own folder in the main file.
pub(super) fn own_import(main: &str) -> String {
    format!("{}/*.toml", own_folder(main))
}

/// Returns the folder that contains only our drop-ins.
pub(super) fn own_folder(main: &str) -> String {
    format!("{}/{FOLDER}", parent(main).trim_end_matches('/'))
}

/// Returns the path of a handler's drop-in.
pub(super) fn path(folder: &str, name: &str) -> String {
    format!("{folder}/{PREFIX}{name}.toml")
}

#[cfg(test)]
mod tests {
    use installer_protocol::Distribution;

    use super::*;
    use crate::containerd::imports;

    #[test]
    fn folders_of_drop_ins_follow_from_the_distribution() {
        for (distribution, expected) in [
            (
                Distribution::Systemd,
                &["/etc/containerd/wasmedge-runtime.d"][..],
            ),
            (
                Distribution::K3s,
                &[
                    "/var/lib/rancher/k3s/agent/etc/containerd/config.toml.d",
                    "/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d",
                ],
            ),
            (Distribution::K0s, &["/etc/k0s/containerd.d"]),
            (Distribution::MicroK8s, &[]),
        ] {
            let layout = distribution.layout();
            assert_eq!(folders(&layout.config, &layout.configuration), expected);
        }
    }

    #[test]
    fn own_import_covers_our_drop_ins() {
        let main = "/etc/containerd/config.toml";
        assert!(imports::covers(
            &own_import(main),
            &path(&own_folder(main), "wasmedge")
        ));
        assert_eq!(own_folder("/config.toml"), "/wasmedge-runtime.d");
    }
}
