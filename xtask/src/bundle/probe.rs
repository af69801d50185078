//! Checks of a library folder by running a small program on it.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use testbed::command::Run;

use super::stand_in;

/// Runs the probe on the folders of `root` and returns the version that the engine reports.
///
/// `lib` must start the engine, and abort with the stand-in's message when it is to compile;
/// `compile` must compile.
pub(super) fn prove(root: &Path, headers: &Path, loader: &str, soname: &str) -> Result<String> {
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let (source, program) = (folder.path().join("probe.c"), folder.path().join("probe"));
    fs::write(&source, include_str!("probe.c"))
        .with_context(|| format!("write {}", source.display()))?;
    Run::new("cc")
        .arg("-I")
        .arg(headers)
        .arg(&source)
        .arg(root.join("lib").join(soname))
        // The engine needs a newer C library than that of the machine that links.
        .args(["-Wl,--allow-shlib-undefined", "-o"])
        .arg(&program)
        .done()?;
    let run = |library_folder: &str, args: &[&str]| -> Result<Output> {
        Run::new(root.join("lib").join(loader))
            .arg("--library-path")
            .arg(root.join(library_folder))
            .arg(&program)
            .args(args)
            .current_dir(folder.path())
            .without_env("LD_LIBRARY_PATH")
            .without_env("LD_PRELOAD")
            .output()
    };
    let version = run("lib", &["version"])?;
    ensure!(
        version.status.success(),
        "the engine does not start on the bundle's lib: {}",
        output_of(&version)
    );

    let refused = run("lib", &["compile", "refused.so"])?;
    // Status 134 in a shell: ended by SIGABRT, which is 6.
    ensure!(
        refused.status.signal() == Some(6)
            && String::from_utf8_lossy(&refused.stderr).contains(stand_in::MESSAGE),
        "compiling on the bundle's lib must abort with {:?}, but: {}",
        stand_in::MESSAGE,
        output_of(&refused)
    );
    let compiled = run("compile", &["compile", "compiled.so"])?;
    ensure!(
        compiled.status.success() && folder.path().join("compiled.so").exists(),
        "the engine cannot compile on the bundle's compile folder: {}",
        output_of(&compiled)
    );
    Ok(String::from_utf8_lossy(&version.stdout).trim().to_owned())
}

fn output_of(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
