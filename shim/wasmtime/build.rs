//! The full version of Wasmtime that this crate is built with: the crate itself has no constant for
//! it, and its artifacts hold the major version alone.

use std::path::Path;

/// The workspace's lock file, from this crate's folder.
const LOCK: &str = "../../Cargo.lock";

fn main() {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join(LOCK);
    println!("cargo::rerun-if-changed={}", lock.display());
    let text = std::fs::read_to_string(&lock).unwrap_or_default();
    match version_of("wasmtime", &text) {
        Some(version) => println!("cargo::rustc-env=WASMTIME_VERSION={version}"),
        None => println!(
            "cargo::error=cannot find the version of wasmtime in {}",
            lock.display()
        ),
    }
}

/// Returns the version of `package` in the text of a lock file.
fn version_of<'text>(package: &str, lock: &'text str) -> Option<&'text str> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    let version = lines.nth(1)?.strip_prefix("version = \"")?;
    version.strip_suffix('"')
}
