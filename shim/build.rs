//! Links every target that uses the engine so that tests run on the runtime bundle's own loader and
//! libraries.
//!
//! `WASMEDGE_LOADER` and `WASMEDGE_RUN_DIR` (`.cargo/config.toml`) name them. The host's executable
//! carries neither path: the launcher starts it through the loader beside it in the bundle, and
//! passes the libraries' folder.

use std::env;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=WASMEDGE_LOADER");
    println!("cargo::rerun-if-env-changed=WASMEDGE_RUN_DIR");
    // The engine needs versions of the C library that the linking machine's does not have.
    link("--allow-shlib-undefined");
    // The engine must find our symbols (`original` in src/engine/wasmedge.rs).
    for symbol in ["_Znwm", "getcwd", "sigaction", "signal"] {
        link(&format!("--export-dynamic-symbol={symbol}"));
    }
    let (Some(loader), Some(run)) = (path("WASMEDGE_LOADER"), path("WASMEDGE_RUN_DIR")) else {
        return;
    };
    if !loader.exists() || !run.is_dir() {
        println!(
            "cargo::error=the engine's libraries are not in .deps/wasmedge: run `cargo xtask \
             setup` once"
        );
        return;
    }
    // A test is in `deps` of its profile's folder and finds the libraries as `lib` beside that. The
    // search path is relative because cargo applies it to the host too, where it means the bundle's
    // `lib`.
    if let Some(profile) = profile_folder() {
        let beside = profile.join("lib");
        if beside.read_link().ok().as_ref() != Some(&run) {
            // It does not exist the first time. A real folder is not removed, and the next line
            // reports it.
            let _ = std::fs::remove_file(&beside);
            if let Err(error) = symlink(&run, &beside) {
                println!(
                    "cargo::error=link {} to {}: {error}",
                    beside.display(),
                    run.display()
                );
            }
        }
    }
    link("--disable-new-dtags,-rpath,$ORIGIN/../lib");
    link(&format!("--dynamic-linker,{}", loader.display()));
    // The last option wins: the host names no folder of the machine that built it.
    if let Some(name) = loader
        .canonicalize()
        .ok()
        .as_deref()
        .and_then(Path::file_name)
    {
        println!(
            "cargo::rustc-link-arg-bin=wasmedge-host=-Wl,--dynamic-linker,{}",
            Path::new("/started-by-the-launcher").join(name).display()
        );
    }
}

fn link(words: &str) {
    println!("cargo::rustc-link-arg=-Wl,{words}");
}

fn path(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from)
}

/// `target/<profile>`, of which `OUT_DIR` is `build/<package>/out`.
fn profile_folder() -> Option<PathBuf> {
    path("OUT_DIR")?.ancestors().nth(3).map(Path::to_owned)
}
