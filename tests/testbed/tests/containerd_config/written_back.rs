//! containerd's merged configuration as its main file, without this project's marks: its handlers
//! are recognized by their content.

use anyhow::{Context as _, Result, bail, ensure};
use installer_protocol::ConfigMode;
use node_installer::containerd::{ConfigError, propose, revert};

use crate::daemon::{Daemon, Settings, Tree};
use crate::edits::{expect_handlers, handler, install, uninstall};
use crate::mains;

/// Returns main files in each schema that the daemon supports.
fn mains(daemon: &Daemon) -> Vec<(&'static str, String)> {
    let (two, three) = (
        ("two", mains::KIND.to_owned()),
        ("three", mains::THREE.to_owned()),
    );
    let four = ("four", mains::THREE.replace("version = 3", "version = 4"));
    match (daemon.version.major, daemon.version.minor) {
        (1, _) => vec![two],
        version if version < (2, 3) => vec![two, three],
        _ => vec![two, three, four],
    }
}

/// Returns the settings of a main file that was written back: 1.7 then has an additional key of
/// proxy plugins, with or without this project's handlers.
fn written_back(daemon: &Daemon, name: &str, main: &str) -> Result<Settings> {
    let tree = daemon.tree(
        &format!("former-{name}"),
        &[("config.toml", main.to_owned())],
    )?;
    tree.write_back()?;
    tree.settings()
}

/// Checks that no file has anything of this project.
fn check_clean(tree: &Tree<'_>) -> Result<()> {
    for (path, bytes) in tree.bytes()? {
        let text = String::from_utf8_lossy(&bytes);
        ensure!(
            !text.contains("/opt/wasmedge-runtime") && !text.contains("wasmedge-runtime.d"),
            "{} has still\n{text}",
            path.display()
        );
    }
    Ok(())
}

pub(crate) fn a_handler_in_a_merged_file_that_was_written_back_is_upgraded_and_removed(
    daemon: &Daemon,
) -> Result<()> {
    for (name, main) in mains(daemon) {
        for mode in [ConfigMode::Auto, ConfigMode::InPlace] {
            let tree = daemon.tree(
                &format!("back-{name}-{mode:?}"),
                &[("config.toml", main.clone())],
            )?;
            let former = written_back(daemon, &format!("back-{name}-{mode:?}"), &main)?;
            let record = install(&tree, mode, &handler("wasmedge", "1-aaa"), None)?;
            tree.write_back()?;
            expect_handlers(&tree, &former, &[&handler("wasmedge", "1-aaa")])
                .context("after it was written back")?;
            let newer = handler("wasmedge", "2-bbb");
            let record = install(&tree, mode, &newer, Some(&record))
                .with_context(|| format!("upgrade in {name}, {mode:?}"))?;
            expect_handlers(&tree, &former, &[&newer])?;
            uninstall(&tree, mode, &record)
                .with_context(|| format!("remove from {name}, {mode:?}"))?;
            tree.settings()?
                .expect_equal(&former, "after the removal")?;
            check_clean(&tree)?;
        }
    }
    Ok(())
}

pub(crate) fn a_handler_in_a_merged_file_that_was_written_back_is_removed(
    daemon: &Daemon,
) -> Result<()> {
    for (name, main) in mains(daemon) {
        let former = written_back(daemon, &format!("gone-{name}"), &main)?;
        let tree = daemon.tree(&format!("gone-{name}"), &[("config.toml", main)])?;
        let record = install(&tree, ConfigMode::Auto, &handler("wasmedge", "1-aaa"), None)?;
        tree.write_back()?;
        uninstall(&tree, ConfigMode::Auto, &record).context(name)?;
        tree.settings()?
            .expect_equal(&former, "after the removal")?;
        check_clean(&tree)?;
    }
    Ok(())
}

pub(crate) fn two_handlers_in_a_merged_file_that_was_written_back_are_removed_one_by_one(
    daemon: &Daemon,
) -> Result<()> {
    for (name, main) in mains(daemon) {
        let former = written_back(daemon, &format!("pair-{name}"), &main)?;
        let tree = daemon.tree(&format!("pair-{name}"), &[("config.toml", main)])?;
        let (one, other) = (handler("wasmedge", "1-aaa"), handler("second", "1-aaa"));
        let first = install(&tree, ConfigMode::Auto, &one, None)?;
        let second = install(&tree, ConfigMode::Auto, &other, None)?;
        tree.write_back()?;
        uninstall(&tree, ConfigMode::Auto, &first).context(name)?;
        expect_handlers(&tree, &former, &[&other])?;
        uninstall(&tree, ConfigMode::Auto, &second).context(name)?;
        tree.settings()?
            .expect_equal(&former, "after both removals")?;
        check_clean(&tree)?;
    }
    Ok(())
}

pub(crate) fn handler_that_was_changed_in_a_merged_file_is_named_with_its_lines(
    daemon: &Daemon,
) -> Result<()> {
    let tree = daemon.tree("foreign", &[("config.toml", mains::own(daemon).to_owned())])?;
    let ours = handler("wasmedge", "1-aaa");
    let record = install(&tree, ConfigMode::Auto, &ours, None)?;
    tree.write_back()?;
    let merged = std::fs::read_to_string(&tree.main)?;
    tree.write(
        "config.toml",
        &merged.replace(&ours.launcher, "/usr/local/bin/containerd-shim-wasmedge-v1"),
    )?;
    let facts = tree.facts(ConfigMode::Auto, Some(&record))?;
    let errors = match (
        propose(&facts, &ours, Some(&record)),
        revert(&facts, &record),
    ) {
        (
            Err(taken @ ConfigError::HandlerTaken { .. }),
            Err(left @ ConfigError::HandlerLeft { .. }),
        ) => [taken.to_string(), left.to_string()],
        other => bail!("{other:?}"),
    };
    for error in errors {
        ensure!(
            error.contains(&tree.main) && error.contains("(lines "),
            "{error}"
        );
    }
    Ok(())
}
