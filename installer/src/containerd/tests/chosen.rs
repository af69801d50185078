//! Settings of a handler: versions that refuse them, and the lines that they change.

use runtime_options::{HandlerOptions, LogLevel};
use std::num::NonZeroU32;

use super::*;

#[test]
fn unsupported_settings_are_refused_before_anything_is_written() {
    let quiet = Settings {
        options: HandlerOptions {
            log_level: LogLevel::Error,
            ..HandlerOptions::default()
        },
        ..Settings::default()
    };
    let few = Settings {
        options: HandlerOptions {
            max_containers: NonZeroU32::new(1),
            ..HandlerOptions::default()
        },
        ..Settings::default()
    };
    let shim = Settings {
        sandboxer: Sandboxer::Shim,
        ..Settings::default()
    };
    for (containerd, main, settings, says) in [
        ("1.6.20", V2, Settings::default(), None),
        (
            "1.6.20",
            V2,
            quiet.clone(),
            Some("leave spec.runtime at its defaults"),
        ),
        (
            "1.6.20",
            V2,
            few.clone(),
            Some("upgrade containerd to 1.7 or later"),
        ),
        ("1.7.24", V2, quiet, None),
        (
            "1.7.24",
            V2,
            shim.clone(),
            Some("needs containerd 2.4 or later, and this is 1.7.24"),
        ),
        ("2.3.7", V3, few, None),
        ("2.3.7", V3, shim.clone(), Some("set it to PodSandbox")),
        ("2.4.0", V3, shim, None),
    ] {
        let facts = ConfigTree::with(&[(MAIN, main)])
            .facts(Distribution::Systemd, ConfigMode::Auto, containerd, None)
            .unwrap();
        let proposal = propose(
            &facts,
            &Handler {
                settings: settings.clone(),
                ..handler("wasmedge")
            },
            None,
        );
        match (proposal, says) {
            (Ok(proposal), None) => assert_eq!(proposal.written.settings, settings, "{containerd}"),
            (Err(error), Some(says)) => {
                assert!(error.to_string().contains(says), "{error}");
                assert_eq!(error.reason(), Reason::Unsupported, "{error}");
            }
            (proposal, says) => panic!(
                "containerd {containerd}: {says:?} expected of {settings:?}, not {proposal:?}"
            ),
        }
    }
}

#[test]
fn settings_add_and_remove_only_their_own_lines() {
    for (containerd, main) in [("1.7.24", V2), ("2.4.2", V3)] {
        let mut tree = ConfigTree::with(&[(MAIN, main)]);
        let record = tree.install(containerd, &handler("wasmedge"), None);
        let plain = tree.clone();
        let chosen = Handler {
            settings: Settings {
                options: HandlerOptions {
                    log_level: LogLevel::Trace,
                    max_containers: NonZeroU32::new(7),
                    ..HandlerOptions::default()
                },
                ..Settings::default()
            },
            ..handler("wasmedge")
        };
        let record = tree.install(containerd, &chosen, Some(&record));
        let line = |tree: &ConfigTree, line: &str| {
            tree.files
                .values()
                .any(|text| text.lines().any(|found| found.trim() == line))
        };
        for chosen in ["log_level = \"trace\"", "max_containers = 7"] {
            assert!(line(&tree, chosen) && !line(&plain, chosen), "{tree:?}");
        }
        tree.install(containerd, &handler("wasmedge"), Some(&record));
        assert_eq!(tree, plain, "containerd {containerd}");
    }
}
