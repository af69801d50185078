//! Edits by other tools that break containerd's configuration, most of them silently: the proof
//! detects each, and this project's edits do not do so.

use anyhow::{Result, bail, ensure};
use installer_protocol::ConfigMode;
use node_installer::containerd::{
    ConfigError, FileChange, Handler, Proposal, RequiredRestart, WrittenHandler, propose, prove,
};

use crate::daemon::{Daemon, Tree};
use crate::edits::{handler, install, uninstall};
use crate::mains;

const TWO: &str = "io.containerd.grpc.v1.cri";
const THREE: &str = "io.containerd.cri.v1.runtime";

/// The result of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProofResult {
    Right,
    /// Another setting is lost, or the handler is missing.
    Changes,
    /// containerd would not start.
    Refused,
}

/// Proposes a drop-in as a naive installer writes it, and the import of it.
fn unwary(tree: &Tree<'_>, handler: &Handler, first_line: &str, plugin: &str) -> Result<Proposal> {
    let Handler {
        name,
        launcher,
        systemd_cgroup,
        settings: _,
    } = handler;
    let table = format!("plugins.\"{plugin}\".containerd.runtimes.{name}");
    let text = format!(
        "{first_line}\n[{table}]\nruntime_type = \"io.containerd.wasmedge.v1\"\nruntime_path = \
         \"{launcher}\"\n\
         pod_annotations = [\"runtime.wasmedge.dev/*\"]\ncontainer_annotations = \
         [\"runtime.wasmedge.dev/*\"]\n\
         [{table}.options]\nSystemdCgroup = {systemd_cgroup}\n"
    );
    let main = std::fs::read_to_string(&tree.main)?;
    let path = tree.path("unwary.toml");
    let change = |path: &str, before: Option<&str>, after: String| FileChange {
        path: path.to_owned(),
        before: before.map(|text| text.as_bytes().to_vec()),
        after: Some(after.into_bytes()),
    };
    Ok(Proposal {
        changes: vec![
            change(&path, None, text),
            change(
                &tree.main,
                Some(&main),
                format!("imports = [\"{path}\"]\n{main}"),
            ),
        ],
        written: WrittenHandler {
            handler: name.clone(),
            settings: handler.settings.clone(),
            files: Vec::new(),
            made_folders: Vec::new(),
        },
        config_path: path,
        restart: RequiredRestart::Installer,
    })
}

/// Returns the result of the proof of such a drop-in.
fn prove_drop_in(
    daemon: &Daemon,
    main: &str,
    first_line: &str,
    plugin: &str,
) -> Result<ProofResult> {
    let name = format!("trap-{}-{}-{}", main.len(), first_line.len(), plugin.len());
    let tree = daemon.tree(&name, &[("config.toml", main.to_owned())])?;
    let handler = handler("wasmedge", "1-aaa");
    let proposal = unwary(&tree, &handler, first_line, plugin)?;
    let facts = tree.facts(ConfigMode::Auto, None)?;
    let result = match prove(&tree, &facts, &proposal, &handler) {
        Ok(()) => ProofResult::Right,
        Err(ConfigError::Changes { .. }) => ProofResult::Changes,
        Err(ConfigError::Refused { .. }) => ProofResult::Refused,
        Err(other) => bail!("{other}"),
    };
    // This project's handler, beside it, does no harm.
    let mut former = tree.settings()?.handlers()?;
    former.push("wasmedge".to_owned());
    former.sort();
    let record = install(&tree, ConfigMode::Auto, &handler, None)?;
    let mut present = tree.settings()?.handlers()?;
    present.sort();
    ensure!(present == former, "{present:?} instead of {former:?}");
    uninstall(&tree, ConfigMode::Auto, &record)?;
    Ok(result)
}

/// Checks the result of each of these drop-ins: a main file, the drop-in's first line, and its
/// plugin's name.
fn expect_results(daemon: &Daemon, cases: &[(&str, &str, &str, ProofResult)]) -> Result<()> {
    for (main, first_line, plugin, expected) in cases {
        let found = prove_drop_in(daemon, main, first_line, plugin)?;
        ensure!(
            found == *expected,
            "{found:?} instead of {expected:?} on {}, with {first_line:?} and {plugin}",
            daemon.version
        );
    }
    Ok(())
}

pub(crate) fn effect_of_a_drop_in_in_the_main_files_schema_is_known(daemon: &Daemon) -> Result<()> {
    if daemon.version.major < 2 {
        let lost = |first_line| (mains::KIND, first_line, TWO, ProofResult::Changes);
        return expect_results(daemon, &[lost("version = 2"), lost("")]);
    }
    let right = |main, first_line, plugin| (main, first_line, plugin, ProofResult::Right);
    expect_results(
        daemon,
        &[
            right(mains::KIND, "version = 2", TWO),
            right(mains::KIND, "", TWO),
            right(mains::THREE, "version = 3", THREE),
            right(mains::THREE, "", THREE),
        ],
    )
}

pub(crate) fn effect_of_a_drop_in_in_another_schema_is_known(daemon: &Daemon) -> Result<()> {
    // containerd 2.3 and later convert each file before they merge it.
    let expected = if (daemon.version.major, daemon.version.minor) >= (2, 3) {
        ProofResult::Right
    } else {
        ProofResult::Changes
    };
    expect_results(daemon, &[(mains::KIND, "", THREE, expected)])?;
    if daemon.version.major >= 2 {
        expect_results(
            daemon,
            &[
                (mains::THREE, "", TWO, expected),
                (mains::THREE, "version = 2", TWO, expected),
            ],
        )
    } else {
        Ok(())
    }
}

pub(crate) fn effect_of_a_drop_in_that_names_its_schema_is_known(daemon: &Daemon) -> Result<()> {
    let expected = match (daemon.version.major, daemon.version.minor) {
        (1, 7) => ProofResult::Refused,
        version if version >= (2, 3) => ProofResult::Right,
        _ => ProofResult::Changes,
    };
    expect_results(daemon, &[(mains::KIND, "version = 3", THREE, expected)])
}

pub(crate) fn a_drop_in_on_an_old_containerd_is_refused(daemon: &Daemon) -> Result<()> {
    let tree = daemon.tree("asked", &[("config.toml", mains::KIND.to_owned())])?;
    let proposed = propose(
        &tree.facts(ConfigMode::DropIn, None)?,
        &handler("wasmedge", "1-aaa"),
        None,
    );
    match proposed {
        Err(ConfigError::Mode {
            mode: ConfigMode::DropIn,
            ..
        }) if daemon.version.major < 2 => Ok(()),
        Ok(_) if daemon.version.major >= 2 => Ok(()),
        other => bail!("{other:?}"),
    }
}

pub(crate) fn main_file_without_the_default_handler_is_never_written(
    daemon: &Daemon,
) -> Result<()> {
    // On containerd 1.x the first named handler replaces the default one.
    let tree = daemon.tree("bare", &[("config.toml", "version = 2\n".to_owned())])?;
    let record = install(&tree, ConfigMode::Auto, &handler("wasmedge", "1-aaa"), None)?;
    let mut settings = tree.settings()?;
    let default = settings.value(&["default_runtime_name"]);
    ensure!(
        default.as_ref().and_then(toml::Value::as_str) == Some("runc"),
        "{default:?}"
    );
    ensure!(
        settings.handlers()? == ["runc", "wasmedge"],
        "{:?}",
        settings.handlers()?
    );
    uninstall(&tree, ConfigMode::Auto, &record)
}

pub(crate) fn broken_main_file_is_left_unchanged(daemon: &Daemon) -> Result<()> {
    let broken = daemon.tree(
        "broken",
        &[("config.toml", "version = 2\n[plugins\n".to_owned())],
    )?;
    let facts = broken.facts(ConfigMode::Auto, None);
    ensure!(facts.is_err(), "{:?}", facts.ok());
    let off = daemon.tree(
        "off",
        &[(
            "config.toml",
            "version = 2\ndisabled_plugins = [\"cri\"]\n".to_owned(),
        )],
    )?;
    match propose(
        &off.facts(ConfigMode::Auto, None)?,
        &handler("wasmedge", "1-aaa"),
        None,
    ) {
        Err(ConfigError::CriDisabled { .. }) => Ok(()),
        other => bail!("{other:?}"),
    }
}
