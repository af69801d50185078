//! Handlers without marks, in all forms and under all names of the CRI plugin.

use super::*;

const BASE: &str = "/opt/wasmedge-runtime";

/// A merged configuration, as containerd prints it, with a handler that leads to `program`.
fn merged(plugin: &str, program: &str) -> String {
    format!(
        "version = 3\n\n[plugins]\n  [plugins.'{plugin}']\n    \
         [plugins.'{plugin}'.containerd]\n      \
         [plugins.'{plugin}'.containerd.runtimes]\n        \
         [plugins.'{plugin}'.containerd.runtimes.runc]\n          \
         runtime_type = 'io.containerd.runc.v2'\n\n        \
         [plugins.'{plugin}'.containerd.runtimes.wasmedge]\n          \
         runtime_type = 'io.containerd.wasmedge.v1'\n          runtime_path = \
         '{program}'\n\n          \
         [plugins.'{plugin}'.containerd.runtimes.wasmedge.options]\n            SystemdCgroup = \
         true\n\n[timeouts]\n  x = '1s'\n"
    )
}

#[test]
fn unmarked_handler_of_ours_is_removed_and_nothing_else() {
    for plugin in CRI_PLUGINS {
        let text = merged(
            plugin,
            "/opt/wasmedge-runtime/wasmedge/1.0.0-0/bin/containerd-shim-wasmedge-v1",
        );
        assert!(has("/c", &text, "wasmedge", BASE).unwrap(), "{text}");
        let left = take("/c", &text, "wasmedge", BASE).unwrap();
        assert!(!left.contains("wasmedge"), "{left}");
        for kept in [
            "version = 3",
            "runtimes.runc]",
            "runtime_type = 'io.containerd.runc.v2'",
            "[timeouts]",
            "x = '1s'",
        ] {
            assert!(left.contains(kept), "{kept} is gone from {left}");
        }
        assert_eq!(take("/c", &left, "wasmedge", BASE).unwrap(), left);
    }
}

#[test]
fn unmarked_handler_of_the_sandbox_api_is_recognized() {
    let text = "plugins.cri.containerd.runtimes.wasmedge.runtime_type = \
                '/opt/wasmedge-runtime/w/1@2/containerd-shim-wasmedge-v1'\n";
    assert!(has("/c", text, "wasmedge", BASE).unwrap());
    assert!(
        !take("/c", text, "wasmedge", BASE)
            .unwrap()
            .contains("wasmedge")
    );
}

#[test]
fn foreign_handler_of_the_name_stays_and_its_lines_are_named() {
    for program in [
        "/usr/local/bin/containerd-shim-wasmedge-v1",
        "/opt/wasmedge-runtime-of-mine/bin/x",
    ] {
        let text = merged("io.containerd.cri.v1.runtime", program);
        assert!(!has("/c", &text, "wasmedge", BASE).unwrap());
        assert_eq!(take("/c", &text, "wasmedge", BASE).unwrap(), text);
        let lines = lines("/c", &text, "wasmedge").unwrap().unwrap();
        assert_eq!(lines.to_string(), "lines 10-15", "{text}");
    }
    let dotted = "a = 1\nplugins.cri.containerd.runtimes.wasmedge.runtime_type = 'x'\n";
    assert_eq!(
        lines("/c", dotted, "wasmedge")
            .unwrap()
            .unwrap()
            .to_string(),
        "line 2"
    );
    assert_eq!(lines("/c", dotted, "other").unwrap(), None);
}
