//! `cargo xtask setup`: puts WasmEdge's headers and library, which plain `cargo` needs, into
//! `.deps`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use testbed::cache::{Cache, Key};
use testbed::command::Run;
use testbed::requirements::{self, Need};

use crate::bundle::libraries;

/// Puts what plain `cargo` needs into `.deps`: WasmEdge's headers and library.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Args {}

/// The packages that building the workspace needs. `gcc` alone does not include the C library's
/// headers.
const NEEDS: &[Need] = &[
    Need {
        package: "gcc",
        provides: "cc",
    },
    Need {
        package: "binutils",
        provides: "strip",
    },
    Need {
        package: "libc6-dev",
        provides: "/usr/lib/*/crt1.o",
    },
    // wasmedge-sys generates its bindings with bindgen, which loads libclang.
    Need {
        package: "libclang-14-dev",
        provides: "/usr/lib/llvm-*/lib/libclang.so",
    },
    // containerd's client generates its bindings with protoc.
    Need {
        package: "protobuf-compiler",
        provides: "protoc",
    },
    Need {
        package: "pkg-config",
        provides: "pkg-config",
    },
    Need {
        package: "libseccomp-dev",
        provides: "/usr/lib/*/libseccomp.so",
    },
];

pub(crate) fn run(args: Args) -> Result<()> {
    let Args {} = args;
    prepare(&Cache::open()?)?;
    testbed::progress::print_line(
        "ready: .deps/wasmedge holds the engine that cargo builds and tests against",
    );
    Ok(())
}

/// Prepares this checkout for plain `cargo build` and `cargo test`. Costs next to nothing if it is
/// done already.
pub(crate) fn prepare(cache: &Cache) -> Result<()> {
    requirements::install(NEEDS)?;
    let libraries = libraries::assemble(cache)?;
    let path = libraries.root.as_os_str().as_encoded_bytes();
    let entry = cache.entry(
        "wasmedge-dev",
        &Key::of([path, libraries.headers.as_os_str().as_encoded_bytes()]),
        |draft| {
            let link = |target: &Path, name: &str| {
                symlink(target, draft.join(name))
                    .with_context(|| format!("link {name} to {}", target.display()))
            };
            fs::create_dir(draft.join("lib")).context("make a folder for the engine alone")?;
            link(&libraries.headers, "include")?;
            link(&libraries.engine(), "lib/libwasmedge.so")?;
            link(&libraries.run(), "run")?;
            link(&libraries.loader(), "loader")
        },
    )?;
    let deps = repository().join(".deps");
    fs::create_dir_all(&deps).with_context(|| format!("make {}", deps.display()))?;
    point(&deps.join("wasmedge"), &entry)
}

/// Returns a run of cargo on this checkout, with the environment of a shell.
pub(crate) fn cargo() -> Run {
    variables_about_us().into_iter().fold(
        Run::new("cargo").current_dir(repository()),
        Run::without_env,
    )
}

/// Returns the variables in which `cargo xtask` describes the package xtask to its program.
///
/// A cargo that inherits them differs from one in a shell: build scripts that watch such a variable
/// (ring's does) run again, and much is recompiled whenever runs from here and from a shell
/// alternate.
pub(crate) fn variables_about_us() -> Vec<OsString> {
    let about_us =
        |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    std::env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| name.to_str().is_some_and(about_us))
        .collect()
}

/// Returns the profile of this program, which is also that of all its builds: `cargo run --release
/// --package xtask -- …` makes release builds.
///
/// # Errors
/// If the path of this program is not known.
pub(crate) fn profile() -> Result<String> {
    let folder = profile_folder()?;
    Ok(folder
        .file_name()
        .context("this program lies in no folder with a name")?
        .to_string_lossy()
        .into_owned())
}

/// Returns the folder of the executables of [`profile`].
fn profile_folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program's path")?;
    Ok(own
        .parent()
        .context("this program lies in no folder")?
        .to_owned())
}

/// Returns cargo's arguments, behind its verb, to build with [`profile`].
///
/// # Errors
/// As [`profile`].
pub(crate) fn as_built() -> Result<&'static [&'static str]> {
    Ok(if is_release()? { &["--release"] } else { &[] })
}

/// Returns whether [`profile`] is that of releases.
///
/// # Errors
/// As [`profile`].
pub(crate) fn is_release() -> Result<bool> {
    Ok(profile()? == "release")
}

/// Builds the workspace's executable `name`, and returns its path.
///
/// Builds the workspace, not the package: cargo chooses the features of a dependency for all
/// packages of a command together, and would recompile most of them for each choice of packages.
///
/// # Errors
/// If cargo fails, or puts the executable elsewhere.
pub(crate) fn executable(name: &str) -> Result<PathBuf> {
    cargo()
        .args(["build", "--workspace"])
        .args(as_built()?)
        .args(["--bin", name])
        .done()?;
    made(name)
}

/// Returns the path of cargo's executable `name`.
///
/// # Errors
/// If it does not exist.
pub(crate) fn made(name: &str) -> Result<PathBuf> {
    let made = profile_folder()?.join(name);
    ensure!(
        made.is_file(),
        "cargo built no {}: check whether cargo's configuration sets another target or profile",
        made.display()
    );
    Ok(made)
}

/// Returns the root of this checkout.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the repository")
        .to_owned()
}

/// Points `link` to `target` atomically: concurrent readers find the former or the new target.
fn point(link: &Path, target: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|former| former == target) {
        return Ok(());
    }
    let draft = link.with_extension(format!("draft-{}", std::process::id()));
    symlink(target, &draft).with_context(|| format!("make the link {}", draft.display()))?;
    fs::rename(&draft, link)
        .with_context(|| format!("rename {} to {}", draft.display(), link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_is_replaced_atomically() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        for target in ["a", "a", "b"] {
            point(&link, Path::new(target)).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), Path::new(target));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
