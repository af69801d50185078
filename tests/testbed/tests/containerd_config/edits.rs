//! Handlers that are added, upgraded and removed, and containerd's configuration meanwhile.

use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use installer_protocol::layout::Configuration;
use installer_protocol::{ConfigMode, Settings};
use node_installer::containerd::{
    ConfigError, Handler, Version, WrittenHandler, propose, prove, prove_removal, revert,
};
use runtime_options::{EngineChoice, Grouping, HandlerOptions, LogLevel, Sandboxer, SettingKey};
use toml::Value;

use crate::daemon::{Daemon, Tree};
use crate::mains;

/// Returns a handler with a launcher in the folder of this version. That of `second` leads through
/// an entry, which has the options; others have a table.
pub(crate) fn handler(name: &str, version: &str) -> Handler {
    let folder = if name == "second" {
        format!("{version}@0123")
    } else {
        format!("{version}/bin")
    };
    Handler {
        name: name.to_owned(),
        launcher: format!("/opt/wasmedge-runtime/{folder}/containerd-shim-wasmedge-v1"),
        systemd_cgroup: name == "wasmedge",
        settings: Settings::default(),
    }
}

/// Proposes, proves and writes a handler, and checks that a second proposal is empty.
pub(crate) fn install(
    tree: &Tree<'_>,
    mode: ConfigMode,
    handler: &Handler,
    record: Option<&WrittenHandler>,
) -> Result<WrittenHandler> {
    let facts = tree.facts(mode, record)?;
    let proposal = propose(&facts, handler, record)?;
    let former = tree.bytes()?;
    prove(tree, &facts, &proposal, handler)?;
    ensure!(tree.bytes()? == former, "the proof left files");
    tree.apply(&proposal.changes)?;
    let again = propose(
        &tree.facts(mode, Some(&proposal.written))?,
        handler,
        Some(&proposal.written),
    )?;
    ensure!(
        again.changes.is_empty(),
        "a second proposal has changes for {}: {:?}",
        handler.name,
        again.changes
    );
    Ok(proposal.written)
}

/// Proves and applies the removal of a handler.
pub(crate) fn uninstall(tree: &Tree<'_>, mode: ConfigMode, record: &WrittenHandler) -> Result<()> {
    let facts = tree.facts(mode, Some(record))?;
    let changes = revert(&facts, record)?;
    prove_removal(tree, &facts, &changes, &record.handler)?;
    tree.apply(&changes)?;
    ensure!(
        revert(&tree.facts(mode, Some(record))?, record)?.is_empty(),
        "a second removal has changes"
    );
    Ok(())
}

/// Checks that containerd has these handlers beside `former`, and nothing else is new.
pub(crate) fn expect_handlers(
    tree: &Tree<'_>,
    former: &crate::daemon::Settings,
    handlers: &[&Handler],
) -> Result<()> {
    let mut settings = tree.settings()?;
    for handler in handlers {
        let table = settings.take(&handler.name)?;
        let annotations = Value::from(vec!["runtime.wasmedge.dev/*"]);
        let sandboxer = match handler.settings.sandboxer {
            Sandboxer::PodSandbox if tree.daemon.version.major < 2 => {
                vec![("runtime_type", Value::from(handler.launcher.as_str()))]
            }
            Sandboxer::PodSandbox => {
                vec![("runtime_type", Value::from("io.containerd.wasmedge.v1"))]
            }
            Sandboxer::Shim => vec![
                ("runtime_type", Value::from(handler.launcher.as_str())),
                ("sandboxer", Value::from("shim")),
                ("disable_pause_image_pull", Value::from(true)),
            ],
        };
        for (key, value) in sandboxer.into_iter().chain([
            ("runtime_path", Value::from(handler.launcher.as_str())),
            ("pod_annotations", annotations.clone()),
            ("container_annotations", annotations),
        ]) {
            ensure!(
                table.get(key) == Some(&value),
                "{key} of {} is {:?}",
                handler.name,
                table.get(key)
            );
        }
        // containerd 1.x prints an empty table if there is none.
        let found = table
            .get("options")
            .and_then(Value::as_table)
            .cloned()
            .unwrap_or_default();
        ensure!(
            found == options(handler),
            "options of {} are {found:?}",
            handler.name
        );
    }
    settings.expect_equal(
        former,
        &format!(
            "with {:?}",
            handlers
                .iter()
                .map(|handler| &handler.name)
                .collect::<Vec<_>>()
        ),
    )
}

/// Returns the whole options table of a handler.
fn options(handler: &Handler) -> toml::Table {
    if handler.launcher.contains('@') {
        return toml::Table::new();
    }
    let chosen = handler
        .settings
        .options
        .table()
        .into_iter()
        .map(|(key, value)| format!("{key} = {value}\n"));
    let driver = format!("SystemdCgroup = {}\n", handler.systemd_cgroup);
    let text: String = std::iter::once(driver).chain(chosen).collect();
    text.parse().expect("the options are valid TOML")
}

/// Which of two handlers is removed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    /// The one that was added first.
    Older,
    /// The one that was added last.
    Newer,
}

/// Adds two handlers, upgrades one, and removes them in either order.
fn add_and_remove(tree: &Tree<'_>, mode: ConfigMode) -> Result<()> {
    add_and_remove_in(tree, mode, First::Older)?;
    add_and_remove_in(tree, mode, First::Newer)
}

fn add_and_remove_in(tree: &Tree<'_>, mode: ConfigMode, order: First) -> Result<()> {
    let (bytes, former) = (tree.bytes()?, tree.settings()?);
    let (one, other, newer) = (
        handler("wasmedge", "1-aaa"),
        handler("second", "1-aaa"),
        handler("wasmedge", "2-bbb"),
    );
    let first = install(tree, mode, &one, None)?;
    expect_handlers(tree, &former, &[&one])?;
    let second = install(tree, mode, &other, None)?;
    let first = install(tree, mode, &newer, Some(&first)).context("upgrade")?;
    expect_handlers(tree, &former, &[&newer, &other])?;
    let (goes, stays, last) = match order {
        First::Older => (&first, &other, &second),
        First::Newer => (&second, &newer, &first),
    };
    uninstall(tree, mode, goes)?;
    expect_handlers(tree, &former, &[stays])?;
    uninstall(tree, mode, last)?;
    ensure!(
        tree.bytes()? == bytes,
        "the files changed, if the {order:?} is removed first"
    );
    expect_handlers(tree, &former, &[])
}

pub(crate) fn handler_without_a_main_file_is_added_and_removed(daemon: &Daemon) -> Result<()> {
    add_and_remove(&daemon.tree("absent", &[])?, ConfigMode::Auto)
}

pub(crate) fn handler_beside_kinds_settings_is_added_and_removed(daemon: &Daemon) -> Result<()> {
    add_and_remove(
        &daemon.tree("kind", &[("config.toml", mains::KIND.to_owned())])?,
        ConfigMode::Auto,
    )?;
    add_and_remove_in(
        &daemon.tree("test-cluster", &[("config.toml", mains::test_cluster())])?,
        ConfigMode::Auto,
        First::Newer,
    )
}

pub(crate) fn handler_beside_all_written_defaults_is_added_and_removed(
    daemon: &Daemon,
) -> Result<()> {
    add_and_remove_in(
        &daemon.tree("defaults", &[("config.toml", daemon.defaults()?)])?,
        ConfigMode::Auto,
        First::Newer,
    )
}

pub(crate) fn handler_beside_imported_settings_is_added_and_removed(daemon: &Daemon) -> Result<()> {
    let imported = ("conf.d/50-own.toml", mains::own(daemon).to_owned());
    let tree = daemon.tree(
        "file",
        &[
            (
                "config.toml",
                mains::importing(daemon, "./conf.d/50-own.toml"),
            ),
            imported.clone(),
        ],
    )?;
    add_and_remove_in(&tree, ConfigMode::Auto, First::Older).context("imported as a file")?;
    let tree = daemon.tree("absolute", &[imported])?;
    tree.write(
        "config.toml",
        &mains::importing(daemon, &tree.path("conf.d/*.toml")),
    )?;
    add_and_remove_in(&tree, ConfigMode::Auto, First::Newer)
        .context("imported by an absolute pattern")
}

pub(crate) fn relative_import_pattern_is_resolved_as_containerd_does(
    daemon: &Daemon,
) -> Result<()> {
    let imported = ("conf.d/50-own.toml", mains::own(daemon).to_owned());
    let tree = daemon.tree(
        "pattern",
        &[
            ("config.toml", mains::importing(daemon, "conf.d/*.toml")),
            imported,
        ],
    )?;
    // Debian's containerd resolves such a pattern in its working folder, not in the main file's: it
    // finds nothing.
    let is_read = tree
        .settings()?
        .handlers()?
        .contains(&"test-handler".to_owned());
    ensure!(
        is_read == (daemon.version >= Version::parse("1.6.30")?),
        "{} reads it: {is_read}",
        daemon.version
    );
    add_and_remove_in(&tree, ConfigMode::Auto, First::Older)
}

pub(crate) fn handler_in_the_main_file_itself_is_added_and_removed(daemon: &Daemon) -> Result<()> {
    for (name, text) in [
        ("in-kind", mains::KIND.to_owned()),
        ("in-own", mains::own(daemon).to_owned()),
        ("in-defaults", daemon.defaults()?),
        ("in-unfinished", mains::own(daemon).trim_end().to_owned()),
        ("in-dos", mains::own(daemon).replace('\n', "\r\n")),
    ] {
        add_and_remove_in(
            &daemon.tree(name, &[("config.toml", text)])?,
            ConfigMode::InPlace,
            First::Older,
        )
        .context(name)?;
    }
    Ok(())
}

pub(crate) fn handler_beside_imports_and_line_ends_of_all_forms_is_added_and_removed(
    daemon: &Daemon,
) -> Result<()> {
    let own = mains::own(daemon);
    let importing = |imports: &str| format!("{imports}\n{own}");
    for (name, text) in [
        ("dos", own.replace('\n', "\r\n")),
        ("unfinished", own.trim_end().to_owned()),
        ("empty-list", importing("imports = []")),
        ("inline-list", importing("imports = ['other.toml'] # mine")),
        (
            "long-list",
            importing("imports = [\r\n  \"other.toml\", # first\n  './more.toml', # last\n]"),
        ),
    ] {
        let other = |level: &str| format!("[debug]\n  level = \"{level}\"\n");
        let tree = daemon.tree(
            name,
            &[
                ("config.toml", text),
                ("other.toml", other("info")),
                ("more.toml", other("warn")),
            ],
        )?;
        add_and_remove_in(&tree, ConfigMode::Auto, First::Older).context(name)?;
    }
    Ok(())
}

pub(crate) fn handler_beside_a_rendered_main_file_is_added_and_removed(
    daemon: &Daemon,
) -> Result<()> {
    let mut tree = daemon.tree("rendered", &[])?;
    tree.configuration = Configuration::Rendered {
        v2: tree.path("config.toml.d"),
        v3: tree.path("config-v3.toml.d"),
    };
    let folder = if daemon.version.major < 2 {
        "config.toml.d/*.toml"
    } else {
        "config-v3.toml.d/*.toml"
    };
    tree.write(
        "config.toml",
        &format!(
            "imports = [\"{}\"]\n{}",
            tree.path(folder),
            mains::own(daemon)
        ),
    )?;
    if daemon.version.major >= 2 {
        return add_and_remove(&tree, ConfigMode::Auto);
    }
    match propose(
        &tree.facts(ConfigMode::Auto, None)?,
        &handler("wasmedge", "1-aaa"),
        None,
    ) {
        Err(ConfigError::RenderedByOld { .. }) => Ok(()),
        other => bail!("{other:?}"),
    }
}

pub(crate) fn handler_that_the_distribution_merges_is_proven_beforehand(
    daemon: &Daemon,
) -> Result<()> {
    let mut tree = daemon.tree(
        "watched",
        &[("run/containerd-cri.toml", mains::own(daemon).to_owned())],
    )?;
    tree.configuration = Configuration::Watched {
        folder: tree.path("containerd.d"),
    };
    let schema = if daemon.version.major < 2 { 2 } else { 3 };
    let generated = tree.path("run/containerd-cri.toml");
    tree.write(
        "config.toml",
        &format!("# k0s_managed=true\nversion = {schema}\nimports = [\"{generated}\"]\n"),
    )?;
    let (bytes, former) = (tree.bytes()?, tree.settings()?);
    let record = install(&tree, ConfigMode::Auto, &handler("wasmedge", "1-aaa"), None)?;
    // Only the distribution changes the effective configuration.
    expect_handlers(&tree, &former, &[])?;
    uninstall(&tree, ConfigMode::Auto, &record)?;
    ensure!(tree.bytes()? == bytes, "something is left");
    Ok(())
}

pub(crate) fn options_of_a_handler_are_read_by_containerd(daemon: &Daemon) -> Result<()> {
    let tree = daemon.tree("chosen", &[("config.toml", mains::own(daemon).to_owned())])?;
    let (bytes, former) = (tree.bytes()?, tree.settings()?);
    let plain = handler("wasmedge", "1-aaa");
    let mut record = install(&tree, ConfigMode::Auto, &plain, None)?;
    let all = Settings {
        options: HandlerOptions {
            grouping: Grouping::Pod,
            log_level: LogLevel::Debug,
            max_containers: NonZeroU32::new(250),
            engine: EngineChoice::Wasmtime,
            compile_wait: Duration::ZERO,
            locked: [SettingKey::Engine, SettingKey::CompileWait].into(),
            ..HandlerOptions::default()
        },
        ..Settings::default()
    };
    for settings in [
        all.clone(),
        Settings {
            sandboxer: Sandboxer::Shim,
            ..all
        },
        Settings {
            sandboxer: Sandboxer::Shim,
            ..Settings::default()
        },
    ] {
        let chosen = Handler {
            settings: settings.clone(),
            ..plain.clone()
        };
        let is_refused = match propose(
            &tree.facts(ConfigMode::Auto, Some(&record))?,
            &chosen,
            Some(&record),
        ) {
            Err(ConfigError::OptionsUnread { version }) => version < Version::parse("1.7.0")?,
            Err(ConfigError::SandboxerTooOld { version }) => version < Version::parse("2.4.0")?,
            Err(error) => return Err(error.into()),
            Ok(_) => {
                record = install(&tree, ConfigMode::Auto, &chosen, Some(&record))?;
                expect_handlers(&tree, &former, &[&chosen])?;
                continue;
            }
        };
        ensure!(is_refused, "{settings:?} is refused");
    }
    record = install(&tree, ConfigMode::Auto, &plain, Some(&record))?;
    expect_handlers(&tree, &former, &[&plain])?;
    uninstall(&tree, ConfigMode::Auto, &record)?;
    ensure!(tree.bytes()? == bytes, "something is left");
    Ok(())
}

pub(crate) fn settings_of_an_admin_are_unchanged_by_a_handler(daemon: &Daemon) -> Result<()> {
    let tree = daemon.tree("later", &[("config.toml", mains::own(daemon).to_owned())])?;
    let record = install(&tree, ConfigMode::Auto, &handler("wasmedge", "1-aaa"), None)?;
    let text = std::fs::read_to_string(&tree.main)?;
    tree.write("config.toml", &text.replace("test-handler", "renamed"))?;
    uninstall(&tree, ConfigMode::Auto, &record)?;
    let left = std::fs::read_to_string(&tree.main)?;
    ensure!(
        left == mains::own(daemon).replace("test-handler", "renamed"),
        "{left}"
    );
    ensure!(
        tree.settings()?.handlers()? == ["renamed", "runc"],
        "{:?}",
        tree.settings()?.handlers()?
    );
    Ok(())
}
