//! Edits of whole configurations: tables of cases, and properties over generated main files.

use std::collections::BTreeMap;
use std::io;

use installer_protocol::{Distribution, Reason};
use proptest::prelude::*;

use super::*;

mod chosen;

const MAIN: &str = "/etc/containerd/config.toml";
const OWN: &str = "/etc/containerd/wasmedge-runtime.d/wasmedge-runtime-wasmedge.toml";

/// The configuration files of a node, as texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ConfigTree {
    files: BTreeMap<String, String>,
}

impl ConfigTree {
    fn with(files: &[(&str, &str)]) -> Self {
        Self {
            files: files
                .iter()
                .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
                .collect(),
        }
    }

    fn facts(
        &self,
        distribution: Distribution,
        mode: ConfigMode,
        containerd: &str,
        record: Option<&WrittenHandler>,
    ) -> Result<ConfigFacts, ConfigError> {
        ConfigFacts::gather(
            self,
            &distribution.layout(),
            mode,
            Version::parse(containerd).unwrap(),
            record,
        )
    }

    fn apply(&mut self, changes: &[FileChange]) {
        for FileChange {
            path,
            before,
            after,
        } in changes
        {
            assert_eq!(
                self.files.get(path).map(String::as_bytes),
                before.as_deref(),
                "{path}"
            );
            match after {
                Some(bytes) => self
                    .files
                    .insert(path.clone(), String::from_utf8(bytes.clone()).unwrap()),
                None => self.files.remove(path),
            };
        }
    }

    fn install(
        &mut self,
        containerd: &str,
        handler: &Handler,
        record: Option<&WrittenHandler>,
    ) -> WrittenHandler {
        let facts = self
            .facts(Distribution::Systemd, ConfigMode::Auto, containerd, record)
            .unwrap();
        let proposal = propose(&facts, handler, record).unwrap();
        self.apply(&proposal.changes);
        proposal.written
    }

    fn remove(&mut self, containerd: &str, record: &WrittenHandler) {
        let facts = self
            .facts(
                Distribution::Systemd,
                ConfigMode::Auto,
                containerd,
                Some(record),
            )
            .unwrap();
        let changes = revert(&facts, record).unwrap();
        self.apply(&changes);
    }
}

impl ConfigFiles for ConfigTree {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.files.get(path).map(|text| text.clone().into_bytes()))
    }

    fn list(&self, folder: &str) -> io::Result<Option<Vec<String>>> {
        let inside = self
            .files
            .keys()
            .filter_map(|path| path.strip_prefix(folder)?.strip_prefix('/'));
        let names: Vec<String> = inside
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
            .collect();
        Ok((!names.is_empty()).then_some(names))
    }
}

fn handler(name: &str) -> Handler {
    let launcher = format!("/opt/wasmedge-runtime/0.1.0-0123456789ab/bin/{name}");
    Handler {
        name: name.to_owned(),
        launcher,
        systemd_cgroup: true,
        settings: Settings::default(),
    }
}

fn proposed(
    distribution: Distribution,
    mode: ConfigMode,
    containerd: &str,
    files: &[(&str, &str)],
) -> Result<Proposal, ConfigError> {
    propose(
        &ConfigTree::with(files).facts(distribution, mode, containerd, None)?,
        &handler("wasmedge"),
        None,
    )
}

fn refused(
    distribution: Distribution,
    mode: ConfigMode,
    containerd: &str,
    files: &[(&str, &str)],
) -> (Reason, String) {
    let error = proposed(distribution, mode, containerd, files).unwrap_err();
    (error.reason(), error.to_string())
}

const V2: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n  \
                  runtime_type = \"io.containerd.runc.v2\"\n";
const V3: &str = "version = \
                  3\n[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.runc]\n  \
                  runtime_type = \"io.containerd.runc.v2\"\n";

#[test]
fn handler_is_placed_where_the_nodes_containerd_reads_it_without_harm() {
    let imports = |text: &str| text.replacen('\n', "\nimports = [\"conf.d/*.toml\"]\n", 1);
    let foreign =
        |text: &str| text.replacen('\n', "\nimports = [\"/usr/share/containerd/*.toml\"]\n", 1);
    let conf_d = "/etc/containerd/conf.d/wasmedge-runtime-wasmedge.toml";
    for (containerd, mode, main, path) in [
        ("1.6.20", ConfigMode::Auto, V2.to_owned(), MAIN),
        ("1.7.24", ConfigMode::InPlace, imports(V2), MAIN),
        ("2.1.5", ConfigMode::Auto, V2.to_owned(), OWN),
        ("2.1.5", ConfigMode::DropIn, V3.to_owned(), OWN),
        ("2.1.5", ConfigMode::InPlace, V3.to_owned(), MAIN),
        ("2.4.2", ConfigMode::Auto, imports(V3), conf_d),
        ("2.4.2", ConfigMode::Auto, imports(V2), conf_d),
        ("2.4.2", ConfigMode::Auto, foreign(V3), OWN),
        ("2.4.2", ConfigMode::Auto, String::new(), OWN),
    ] {
        let proposal = proposed(Distribution::Systemd, mode, containerd, &[(MAIN, &main)]).unwrap();
        assert_eq!(proposal.config_path, path, "{containerd} {mode:?} {main}");
        assert_eq!(proposal.restart, RequiredRestart::Installer);
    }
}

#[test]
fn drop_in_has_the_schema_of_the_main_file_not_of_containerd() {
    for (main, line, plugin) in [
        (V2, "version = 2\n", "io.containerd.grpc.v1.cri"),
        (V3, "version = 3\n", "io.containerd.cri.v1.runtime"),
        (
            "version = 4\n",
            "version = 4\n",
            "io.containerd.cri.v1.runtime",
        ),
        ("", "version = 3\n", "io.containerd.cri.v1.runtime"),
    ] {
        let proposal = proposed(
            Distribution::Systemd,
            ConfigMode::Auto,
            "2.4.2",
            &[(MAIN, main)],
        )
        .unwrap();
        let text = String::from_utf8(proposal.changes[0].after.clone().unwrap()).unwrap();
        assert!(
            text.contains(line)
                && text.contains(&format!(
                    "[plugins.\"{plugin}\".containerd.runtimes.wasmedge]"
                )),
            "{text}"
        );
        assert_eq!(
            proposal.changes.last().unwrap().path,
            MAIN,
            "what is imported is written before the import"
        );
    }
}

#[test]
fn node_without_main_file_gets_one_and_loses_it_again() {
    for (containerd, files) in [("1.7.24", 1), ("2.4.2", 2)] {
        let mut tree = ConfigTree::default();
        let record = tree.install(containerd, &handler("wasmedge"), None);
        assert_eq!(tree.files.len(), files, "{:?}", tree.files);
        tree.remove(containerd, &record);
        assert_eq!(tree, ConfigTree::default());
    }
}

#[test]
fn runc_is_added_with_the_first_handler_of_an_old_containerd_and_removed_with_the_last() {
    let original = ConfigTree::with(&[(MAIN, "version = 2\n")]);
    let mut tree = original.clone();
    let one = tree.install("1.7.24", &handler("one"), None);
    let two = tree.install("1.7.24", &handler("two"), None);
    tree.remove("1.7.24", &one);
    assert!(
        tree.files[MAIN].contains("runtimes.runc]"),
        "{}",
        tree.files[MAIN]
    );
    tree.remove("1.7.24", &two);
    assert_eq!(tree, original);
}

#[test]
fn handler_of_an_old_containerd_is_added_to_the_file_that_is_in_force() {
    let main = "version = 2\nimports = [\"conf.d/99-nvidia.toml\"]\n";
    let nvidia = ("/etc/containerd/conf.d/99-nvidia.toml", V2);
    let proposal = proposed(
        Distribution::Systemd,
        ConfigMode::Auto,
        "1.7.24",
        &[(MAIN, main), nvidia],
    )
    .unwrap();
    assert_eq!(proposal.config_path, nvidia.0);
    let elsewhere = "version = 2\nimports = [\"/usr/share/c.toml\"]\n";
    let (reason, message) = refused(
        Distribution::Systemd,
        ConfigMode::Auto,
        "1.7.24",
        &[(MAIN, elsewhere), ("/usr/share/c.toml", V2)],
    );
    assert!(
        reason == Reason::Unsupported && message.contains("/usr/share/c.toml"),
        "{message}"
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn edit_that_the_node_does_not_support_is_refused_with_the_next_step() {
    let k3s = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml";
    let k0s = "/etc/k0s/containerd.toml";
    let template = "/var/snap/microk8s/current/args/containerd-template.toml";
    let managed = "# k0s_managed=true\nversion = 3\n";
    for (distribution, mode, containerd, file, reason, next) in [
        (
            Distribution::Systemd,
            ConfigMode::DropIn,
            "1.7.24",
            Some((MAIN, V2)),
            Reason::InvalidRequest,
            "InPlace or Auto",
        ),
        (
            Distribution::Systemd,
            ConfigMode::Auto,
            "1.5.9",
            Some((MAIN, V2)),
            Reason::Unsupported,
            "1.6",
        ),
        (
            Distribution::Systemd,
            ConfigMode::Auto,
            "1.7.24",
            Some((MAIN, V3)),
            Reason::ContainerdConfig,
            "version 3",
        ),
        (
            Distribution::Systemd,
            ConfigMode::Auto,
            "2.4.2",
            Some((MAIN, "a = ")),
            Reason::ContainerdConfig,
            MAIN,
        ),
        (
            Distribution::Systemd,
            ConfigMode::Auto,
            "2.4.2",
            Some((MAIN, "version = 9")),
            Reason::ContainerdConfig,
            "version 9",
        ),
        (
            Distribution::Systemd,
            ConfigMode::Auto,
            "2.4.2",
            Some((MAIN, "disabled_plugins = ['cri']")),
            Reason::Unsupported,
            "kubelet",
        ),
        (
            Distribution::Systemd,
            ConfigMode::Auto,
            "2.4.2",
            Some((MAIN, "imports = 'a'")),
            Reason::ContainerdConfig,
            "is not a list",
        ),
        (
            Distribution::K3s,
            ConfigMode::InPlace,
            "2.1.5",
            Some((k3s, V3)),
            Reason::InvalidRequest,
            "DropIn or Auto",
        ),
        (
            Distribution::K3s,
            ConfigMode::Auto,
            "2.1.5",
            Some((k3s, V3)),
            Reason::Unsupported,
            "config-v3.toml.d",
        ),
        (
            Distribution::K3s,
            ConfigMode::Auto,
            "1.7.23",
            Some((k3s, V2)),
            Reason::Unsupported,
            "upgrade",
        ),
        (
            Distribution::K3s,
            ConfigMode::Auto,
            "2.1.5",
            None,
            Reason::ContainerdConfig,
            "absent",
        ),
        (
            Distribution::K0s,
            ConfigMode::InPlace,
            "2.1.5",
            Some((k0s, managed)),
            Reason::InvalidRequest,
            "DropIn or Auto",
        ),
        (
            Distribution::K0s,
            ConfigMode::Auto,
            "2.1.5",
            Some((k0s, V3)),
            Reason::Unsupported,
            "k0s_managed",
        ),
        (
            Distribution::MicroK8s,
            ConfigMode::DropIn,
            "2.1.5",
            Some((template, V3)),
            Reason::InvalidRequest,
            "InPlace or Auto",
        ),
        (
            Distribution::MicroK8s,
            ConfigMode::Auto,
            "2.1.5",
            None,
            Reason::ContainerdConfig,
            "absent",
        ),
    ] {
        let (found, message) = refused(distribution, mode, containerd, file.as_slice());
        assert!(
            found == reason && message.contains(next),
            "{distribution:?} {mode:?} {containerd}: {found:?} {message}"
        );
    }
}

#[test]
fn full_disk_during_a_trial_run_is_reported_as_host_files() {
    for (kind, reason) in [
        (io::ErrorKind::StorageFull, Reason::HostFiles),
        (io::ErrorKind::ReadOnlyFilesystem, Reason::HostFiles),
        (io::ErrorKind::NotFound, Reason::ContainerdConfig),
    ] {
        assert_eq!(
            ConfigError::Dump {
                source: kind.into()
            }
            .reason(),
            reason,
            "{kind}"
        );
    }
}

#[test]
fn foreign_handler_is_refused_and_not_changed() {
    let taken = V3.replace("runc]", "wasmedge]");
    let imported = "version = 3\nimports = [\"conf.d/*.toml\"]\n";
    for files in [
        &[(MAIN, taken.as_str())][..],
        &[
            (MAIN, imported),
            ("/etc/containerd/conf.d/50-admin.toml", &taken),
        ],
    ] {
        let (reason, message) = refused(Distribution::Systemd, ConfigMode::Auto, "2.4.2", files);
        assert!(
            reason == Reason::HandlerTaken && message.contains(files.last().unwrap().0),
            "{message}"
        );
    }
}

#[test]
fn preinstalled_handler_is_not_written() {
    let proposal = proposed(
        Distribution::Talos,
        ConfigMode::Preinstalled,
        "2.4.2",
        &[(MAIN, V3)],
    )
    .unwrap();
    assert!(proposal.changes.is_empty() && proposal.written.files.is_empty());
    assert_eq!(proposal.restart, RequiredRestart::NotNeeded);
}

#[test]
fn names_and_paths_that_are_not_safe_in_toml_are_refused() {
    let facts = ConfigTree::with(&[(MAIN, V3)])
        .facts(Distribution::Systemd, ConfigMode::Auto, "2.4.2", None)
        .unwrap();
    for (name, launcher) in [
        ("", "/a"),
        ("a b", "/a"),
        ("a]\n[x", "/a"),
        ("../a", "/a"),
        ("a", "bin/a"),
        ("a", "/a\nb"),
    ] {
        let handler = Handler {
            name: name.to_owned(),
            launcher: launcher.to_owned(),
            ..handler("wasmedge")
        };
        assert_eq!(
            propose(&facts, &handler, None).unwrap_err().reason(),
            Reason::InvalidRequest,
            "{name:?} {launcher:?}"
        );
    }
}

#[test]
fn upgrade_changes_the_launchers_path_and_no_other_line() {
    for (containerd, main, path) in [("1.7.24", V2, MAIN), ("2.4.2", V3, OWN)] {
        let mut tree = ConfigTree::with(&[(MAIN, main)]);
        let record = tree.install(containerd, &handler("wasmedge"), None);
        let before = tree.clone();
        let next = Handler {
            launcher: "/opt/wasmedge-runtime/0.2.0-ba9876543210/bin/x".to_owned(),
            ..handler("wasmedge")
        };
        tree.install(containerd, &next, Some(&record));
        let is_due = |line: &str| {
            before.files[path].contains(line)
                || ["runtime_", "sha256"].iter().any(|key| line.contains(key))
        };
        assert!(tree.files[path].lines().all(is_due), "{tree:?}");
        assert_eq!(
            tree.files.keys().collect::<Vec<_>>(),
            before.files.keys().collect::<Vec<_>>()
        );
    }
}

#[test]
fn changed_mode_moves_the_handler_and_leaves_nothing_behind() {
    let original = ConfigTree::with(&[(MAIN, V3)]);
    let mut tree = original.clone();
    let record = tree.install("2.4.2", &handler("wasmedge"), None);
    let facts = tree
        .facts(
            Distribution::Systemd,
            ConfigMode::InPlace,
            "2.4.2",
            Some(&record),
        )
        .unwrap();
    let proposal = propose(&facts, &handler("wasmedge"), Some(&record)).unwrap();
    tree.apply(&proposal.changes);
    assert!(
        proposal.config_path == MAIN
            && tree.files.len() == 1
            && !tree.files[MAIN].contains("imports"),
        "{:?}",
        tree.files
    );
    tree.remove("2.4.2", &proposal.written);
    assert_eq!(tree, original);
}

#[test]
fn renamed_handler_loses_its_former_name() {
    for (containerd, main) in [("1.7.24", V2), ("2.4.2", V3)] {
        let original = ConfigTree::with(&[(MAIN, main)]);
        let mut tree = original.clone();
        let former = tree.install(containerd, &handler("former"), None);
        let record = tree.install(containerd, &handler("wasmedge"), Some(&former));
        assert!(
            !tree
                .files
                .values()
                .any(|text| text.contains("runtimes.former")),
            "{:?}",
            tree.files
        );
        tree.remove(containerd, &record);
        assert_eq!(tree, original);
    }
}

#[test]
fn removal_keeps_lines_that_an_admin_wrote_into_our_block() {
    let mut tree = ConfigTree::with(&[(MAIN, V2)]);
    let record = tree.install("1.7.24", &handler("wasmedge"), None);
    let edited = tree.files[MAIN]
        .replace(
            "  [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.wasmedge.options]",
            "# mine\n$&",
        )
        .replace(
            "$&",
            "  [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.wasmedge.options]",
        )
        .replace(
            "# <<<",
            "[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/certs\"\n# <<<",
        );
    tree.files.insert(MAIN.to_owned(), edited);
    tree.remove("1.7.24", &record);
    let left = &tree.files[MAIN];
    assert!(
        left.contains("config_path = \"/certs\"") && left.starts_with(V2),
        "{left}"
    );
    assert!(!left.contains("wasmedge"), "{left}");
}

#[test]
fn written_handler_is_read_as_it_was_serialized() {
    let record = ConfigTree::with(&[(MAIN, V3)]).install("2.4.2", &handler("wasmedge"), None);
    assert_eq!(
        serde_json::from_str::<WrittenHandler>(&serde_json::to_string(&record).unwrap()).unwrap(),
        record
    );
}

/// Generates an admin's main file, and a containerd version that reads it.
fn configurations() -> impl Strategy<Value = (String, &'static str)> {
    let version = prop_oneof![
        Just(("version = 2", "io.containerd.grpc.v1.cri", "1.6.20")),
        Just(("version = 2 # kind", "io.containerd.grpc.v1.cri", "1.7.24")),
        Just(("version=2", "io.containerd.grpc.v1.cri", "2.1.5")),
        Just(("version = 3", "io.containerd.cri.v1.runtime", "2.1.5")),
        Just(("version = 4", "io.containerd.cri.v1.runtime", "2.4.2")),
        Just(("", "io.containerd.cri.v1.runtime", "2.4.2")),
        Just(("", "cri", "1.7.24")),
    ];
    let imports = prop_oneof![
        Just(""),
        Just("imports = []"),
        Just("imports = [ # none\n]"),
        Just("imports = ['/etc/containerd/other.toml']"),
        Just("imports = [\n  \"a.toml\", # first\n  'b.toml', # last\n]"),
        Just("imports = [\"conf.d/*.toml\"]"),
    ];
    let runtimes = prop::collection::btree_map("[a-c]{1,2}", "[ -!#-\\[\\]-~]{0,9}", 0..4);
    let (head, tail) = (
        prop_oneof![Just(""), Just("# a head\n\n"), Just("\n")],
        prop_oneof![Just(""), Just("\n"), Just("\n\n# end"), Just("\r\n")],
    );
    (version, imports, runtimes, head, tail, any::<bool>()).prop_map(
        |((version, plugin, containerd), imports, runtimes, head, tail, late)| {
            let root = [version, "root = '/data'", imports];
            let root: Vec<&str> = if late {
                root.into_iter().rev().collect()
            } else {
                root.to_vec()
            };
            let mut text = head.to_owned();
            for line in root.into_iter().filter(|line| !line.is_empty()) {
                text.extend([line, "\n"]);
            }
            for (name, value) in runtimes {
                let table = format!("plugins.'{plugin}'.containerd.runtimes.{name}");
                let lines = format!(
                    "  [{table}] # of {name}\n\truntime_type = \"{value}\"\n  \
                             [{table}.options]\n    SystemdCgroup = true\n"
                );
                text.push_str(&lines);
            }
            text.truncate(text.trim_end().len());
            (text + tail, containerd)
        },
    )
}

proptest! {
    #[test]
    fn removal_after_installation_restores_every_byte((main, containerd) in configurations()) {
        let original = ConfigTree::with(&[(MAIN, &main)]);
        let mut tree = original.clone();
        let record = tree.install(containerd, &handler("wasmedge"), None);
        prop_assert_ne!(&tree, &original);
        tree.remove(containerd, &record);
        prop_assert_eq!(tree, original);
    }

    #[test]
    fn second_installation_changes_nothing((main, containerd) in configurations()) {
        let mut tree = ConfigTree::with(&[(MAIN, &main)]);
        let record = tree.install(containerd, &handler("wasmedge"), None);
        let once = tree.clone();
        prop_assert_eq!(&tree.install(containerd, &handler("wasmedge"), Some(&record)), &record);
        prop_assert_eq!(&tree, &once);
        // Also without the record.
        prop_assert_eq!(tree.install(containerd, &handler("wasmedge"), None).files,
            record.files.clone());
        prop_assert_eq!(&tree, &once);
        tree.remove(containerd, &record);
        let facts = tree.facts(Distribution::Systemd, ConfigMode::Auto, containerd,
            Some(&record)).unwrap();
        prop_assert_eq!(revert(&facts, &record).unwrap(), []);
    }

    #[test]
    fn two_handlers_are_added_and_removed_in_any_order((main, containerd) in configurations(),
        first in any::<bool>(), upgraded in any::<bool>()) {
        let original = ConfigTree::with(&[(MAIN, &main)]);
        let mut tree = original.clone();
        let mut one = tree.install(containerd, &handler("one"), None);
        let alone = tree.clone();
        let two = tree.install(containerd, &handler("two"), None);
        if upgraded {
            one = tree.install(containerd, &Handler { launcher: "/next".to_owned(),
                ..handler("one") }, Some(&one));
        }
        let (goes, stays) = if first { (&one, &two) } else { (&two, &one) };
        tree.remove(containerd, goes);
        if !first && !upgraded {
            prop_assert_eq!(&tree, &alone);
        }
        let kept = format!("runtimes.{}]", stays.handler);
        prop_assert!(tree.files.values().any(|text| text.contains(&kept)));
        tree.remove(containerd, stays);
        prop_assert_eq!(tree, original);
    }

    #[test]
    fn installation_changes_no_value_of_the_main_file((main, containerd) in configurations()) {
        let mut tree = ConfigTree::with(&[(MAIN, &main)]);
        tree.install(containerd, &handler("wasmedge"), None);
        let edited = &tree.files[MAIN];
        let is_named = edited.contains("runtimes.wasmedge]");
        // If runc was added because it was the default, CRI's section has nothing else.
        let adds_runc = edited.contains("default handler");
        let wanted = handler("wasmedge");
        let expected = if is_named { ExpectedDiff::With(&wanted) } else {
            ExpectedDiff::Without("wasmedge") };
        prop_assert!(adds_runc || diff::check(&main, edited, expected,
            Version::parse(containerd).unwrap()).is_ok(), "{}", edited);
        for line in main.lines().filter(|line| !line.starts_with("imports") &&
            !line.contains(".toml")) {
            prop_assert!(edited.contains(line), "{} is gone from {}", line, edited);
        }
    }

    #[test]
    fn lines_that_an_admin_added_later_stay((main, containerd) in configurations()) {
        const HEAD: &str = "# later, above\n";
        const ADDED_LINES: &str = "\n[debug]\n  level = \"info\" # later, below\n";
        let mut tree = ConfigTree::with(&[(MAIN, &main)]);
        let record = tree.install(containerd, &handler("wasmedge"), None);
        let later = |text: &str| format!("{HEAD}{text}{ADDED_LINES}");
        let edited = later(&tree.files[MAIN]);
        tree.files.insert(MAIN.to_owned(), edited);
        tree.remove(containerd, &record);
        prop_assert_eq!(&tree.files[MAIN], &later(&main));
    }
}
