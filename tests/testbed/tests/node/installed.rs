//! Handlers as the installer configures them: their options are in a file beside a link to the
//! launcher.

use std::fs;
use std::num::NonZeroU32;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use installer_protocol::layout::{Distribution, Layout};
use installer_protocol::{ConfigMode, Settings};
use node_installer::containerd::{self, ConfigFacts, FileChange, Version};
use node_installer::entry::HandlerEntry;
use node_installer::node_root::NodePath;
use runtime_options::{Grouping, HandlerOptions, LogLevel};

use crate::machine_files::MachineFiles;
use crate::node::{Node, Verdict, tests};
use crate::pods_fixture::{Pod, Pods};

tests![
    pod_of_an_installed_handler_has_users_of_its_own,
    options_of_an_installed_handler_apply_to_new_pods_only,
    pod_made_with_an_options_table_keeps_its_options_when_the_handler_gets_a_file,
    handlers_of_one_runtime_have_options_of_their_own,
    handler_with_options_in_a_table_and_in_a_file_is_refused,
    handler_whose_options_file_others_can_write_is_refused,
];

/// The handler's name.
const HANDLER: &str = "wasmedge";
/// Arguments of a guest that keeps running.
const SLEEP_COMMAND: &[&str] = &["/app.wasm", "sleep", "600"];
/// The version folder of the runtime.
const RUNTIME_VERSION: &str = "0.1.0-test";
/// The node's user id of root in a pod with a user namespace.
const MAPPED_ROOT: u32 = 1 << 20;

/// Runs `body` on a containerd of the node's version, without a handler at first.
fn alone(node: &Node, body: impl FnOnce(&Pods) -> Result<()>) -> Result<Verdict> {
    let pods = Pods::start_bare(node.containerd.install(), &node.prepared)?;
    body(&pods).map_err(|error| anyhow!("{error:#}\nalone, {}", pods.containerd.evidence()))?;
    pods.finish()
}

/// Configures the handler as the installer does, and restarts containerd. Returns the runtime path
/// in containerd's configuration.
fn install(node: &Node, pods: &Pods, handler: &str, settings: Settings) -> Result<String> {
    let shelf = pods.folder().join("shelf");
    let runtime = shelf.join(RUNTIME_VERSION);
    if !runtime.exists() {
        fs::create_dir_all(&shelf)
            .and_then(|()| symlink(&node.prepared.bundle, &runtime))
            .context("make the shelf")?;
    }
    let entry = HandlerEntry::new(RUNTIME_VERSION, false, &settings);
    entry.make(&shelf).context("make the handler's entry")?;
    let launcher = entry
        .launcher(&NodePath::new(
            shelf.to_str().context("the path is not UTF-8")?,
        )?)
        .as_str()
        .to_owned();
    let main = pods.containerd.config_file().display().to_string();
    let layout = Layout {
        config: main,
        ..Distribution::Systemd.layout()
    };
    let version = Version::parse(&pods.containerd.install().version)?;
    let facts = ConfigFacts::gather(&MachineFiles, &layout, ConfigMode::InPlace, version, None)?;
    let handler = containerd::Handler {
        name: handler.to_owned(),
        launcher: launcher.clone(),
        systemd_cgroup: false,
        settings,
    };
    for FileChange { path, after, .. } in containerd::propose(&facts, &handler, None)?.changes {
        fs::write(&path, after.context("a file that stays")?)
            .with_context(|| format!("write {path}"))?;
    }
    pods.containerd.restart()?;
    Ok(launcher)
}

/// Appends an options table for the handler after the installer's lines, and restarts containerd.
fn add_table(pods: &Pods, options: &str) -> Result<()> {
    let main = pods.containerd.config_file();
    let text = fs::read_to_string(main).context("read the configuration")?;
    let table = text
        .lines()
        .find(|line| line.ends_with(&format!(".runtimes.{HANDLER}]")))
        .context("find the handler's table")?;
    let table = table.replace(']', ".options]");
    fs::write(main, format!("{text}\n{table}\n{options}\n")).context("write the configuration")?;
    pods.containerd.restart()
}

fn limited(max_containers: u32) -> Settings {
    Settings {
        options: HandlerOptions {
            max_containers: NonZeroU32::new(max_containers),
            ..HandlerOptions::default()
        },
        ..Settings::default()
    }
}

/// Returns the error text of a refused container.
fn refusal(result: Result<impl std::fmt::Debug>) -> String {
    result.map_or_else(
        |error| format!("{error:#}"),
        |made| format!("{made:?} was made"),
    )
}

fn pod_of_an_installed_handler_has_users_of_its_own(node: &Node) -> Result<Verdict> {
    let version = &node.containerd.install().version;
    if version.starts_with("1.") {
        return Ok(Verdict::Skipped(format!(
            "containerd {version} does not support user namespaces"
        )));
    }
    alone(node, |pods| {
        install(
            node,
            pods,
            HANDLER,
            Settings {
                options: HandlerOptions {
                    log_level: LogLevel::Debug,
                    ..HandlerOptions::default()
                },
                ..Settings::default()
            },
        )?;
        // kubelet decides by this whether a pod with hostUsers: false may run.
        let features = pods.cri().features(HANDLER)?;
        ensure!(
            features
                .as_ref()
                .is_some_and(|features| features.user_namespaces),
            "the reported features are {features:?}"
        );
        let pod = pods.pod(pods.default_config().with_users_from(MAPPED_ROOT))?;
        let guest = pod.run("guest", SLEEP_COMMAND)?;
        let map = pods.machine().read(pod.pid(&guest)?, "uid_map")?;
        ensure!(
            map.split_whitespace()
                .eq(format!("0 {MAPPED_ROOT} 65536").split(' ')),
            "users of the guest: {map}"
        );
        for args in [&["/app.wasm", "args", "a"][..], &["/native", "args", "a"]] {
            let executed = pods.cri().exec_sync(&guest, args, 5)?;
            ensure!(
                executed.exit_code == 0 && executed.text().ends_with("args\na\n"),
                "{args:?}: {executed:?}"
            );
        }
        pod.remove()
    })
}

/// Checks that a pod of two containers beside its sandbox refuses a fourth container, and that a
/// new pod accepts one.
fn is_limited_to_three(pods: &Pods, old: &Pod<'_>) -> Result<()> {
    old.run("second", SLEEP_COMMAND)
        .context("run another container in the pod")?;
    let new = pods
        .pod(pods.default_config())
        .context("run a container in a pod with the new options")?;
    new.run("guest", SLEEP_COMMAND)?;
    let refused = refusal(old.run("third", SLEEP_COMMAND));
    ensure!(
        refused.contains("which is what max_containers allows"),
        "the pod has the new options: {refused}"
    );
    new.remove()
}

fn options_of_an_installed_handler_apply_to_new_pods_only(node: &Node) -> Result<Verdict> {
    alone(node, |pods| {
        let before = install(node, pods, HANDLER, limited(3))?;
        let old = pods.pod(pods.default_config())?;
        let guest = old.run("guest", SLEEP_COMMAND)?;
        let host = pods.machine().parent_of(old.pid(&guest)?)?;
        let after = install(node, pods, HANDLER, limited(100))?;
        ensure!(
            before != after,
            "one path for two sets of options: {before}"
        );
        is_limited_to_three(pods, &old)?;
        ensure!(
            pods.machine().parent_of(old.pid(&guest)?)? == host,
            "the pod has another host"
        );
        old.remove()
    })
}

fn pod_made_with_an_options_table_keeps_its_options_when_the_handler_gets_a_file(
    node: &Node,
) -> Result<Verdict> {
    let (install_of, version) = (
        node.containerd.install(),
        &node.containerd.install().version,
    );
    if version.starts_with("1.6") {
        return Ok(Verdict::Skipped(format!(
            "containerd {version} passes a handler's table only to runc"
        )));
    }
    let pods = Pods::start_bare(install_of, &node.prepared)?;
    let body = || {
        install(node, &pods, HANDLER, Settings::default())?;
        // Options as installers before the options file wrote them: the launcher in its bundle, and
        // a table.
        let main = pods.containerd.config_file();
        let with_file = fs::read_to_string(main).context("read the configuration")?;
        let launcher = node.prepared.shims().join("containerd-shim-wasmedge-v1");
        let lines = with_file.lines().map(|line| match line.split_once(" = ") {
            Some((key, _)) if line.contains("/shelf/") => {
                format!("{key} = {:?}", launcher.display().to_string())
            }
            _ => line.to_owned(),
        });
        fs::write(main, lines.collect::<Vec<_>>().join("\n") + "\n")
            .context("write the configuration")?;
        add_table(&pods, "SystemdCgroup = false\nmax_containers = 3")?;
        let old = pods.pod(pods.default_config())?;
        let guest = old.run("guest", SLEEP_COMMAND)?;
        let host = pods.machine().parent_of(old.pid(&guest)?)?;
        fs::write(main, with_file).context("remove the table")?;
        install(node, &pods, HANDLER, limited(100))?;
        is_limited_to_three(&pods, &old)?;
        ensure!(
            pods.machine().parent_of(old.pid(&guest)?)? == host,
            "the pod has another host"
        );
        old.remove()
    };
    body().map_err(|error| anyhow!("{error:#}\nalone, {}", pods.containerd.evidence()))?;
    pods.finish()
}

fn handlers_of_one_runtime_have_options_of_their_own(node: &Node) -> Result<Verdict> {
    alone(node, |pods| {
        install(node, pods, HANDLER, Settings::default())?;
        install(
            node,
            pods,
            "wasmedge-pods",
            Settings {
                options: HandlerOptions {
                    grouping: Grouping::Pod,
                    ..HandlerOptions::default()
                },
                ..Settings::default()
            },
        )?;
        let host_of = |handler: &str| {
            let pod = pods.pod_of(handler, pods.default_config())?;
            let guest = pod.run("guest", SLEEP_COMMAND)?;
            Ok::<_, anyhow::Error>((pods.machine().parent_of(pod.pid(&guest)?)?, pod))
        };
        let (one, same) = (host_of(HANDLER)?, host_of(HANDLER)?);
        let (own, other) = (host_of("wasmedge-pods")?, host_of("wasmedge-pods")?);
        ensure!(
            one.0 == same.0,
            "pods of one handler with the grouping Node have two hosts"
        );
        ensure!(
            own.0 != other.0 && own.0 != one.0 && other.0 != one.0,
            "pods of the grouping Pod share a host"
        );
        [one, same, own, other]
            .into_iter()
            .try_for_each(|(_, pod)| pod.remove())
    })
}

fn handler_with_options_in_a_table_and_in_a_file_is_refused(node: &Node) -> Result<Verdict> {
    let version = &node.containerd.install().version;
    if version.starts_with("1.6") {
        return Ok(Verdict::Skipped(format!(
            "containerd {version} passes a handler's table only to runc"
        )));
    }
    alone(node, |pods| {
        let launcher = install(node, pods, HANDLER, Settings::default())?;
        add_table(pods, "SystemdCgroup = false")?;
        let refused = refusal(pods.pod(pods.default_config()));
        let file = Path::new(&launcher).with_file_name("options.toml");
        ensure!(
            refused.contains(&file.display().to_string()) && refused.contains("options table"),
            "{refused}"
        );
        Ok(())
    })
}

fn handler_whose_options_file_others_can_write_is_refused(node: &Node) -> Result<Verdict> {
    alone(node, |pods| {
        let launcher = install(node, pods, HANDLER, Settings::default())?;
        let file = Path::new(&launcher).with_file_name("options.toml");
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .context("open the file")?;
        let refused = refusal(pods.pod(pods.default_config()));
        ensure!(
            refused.contains("can be written by other users"),
            "{refused}"
        );
        Ok(())
    })
}
