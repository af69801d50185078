//! Tests.

use installer_protocol::Distribution;

use super::*;

#[test]
fn drop_ins_may_be_in_these_folders() {
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
fn our_import_means_our_drop_ins() {
    let main = "/etc/containerd/config.toml";
    assert!(imports::covers(
        &own_import(main),
        &drop_in(&own_folder(main), "wasmedge")
    ));
    assert_eq!(own_folder("/config.toml"), "/wasmedge-runtime.d");
}
