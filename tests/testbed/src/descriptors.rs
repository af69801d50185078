//! File descriptors that this process inherited and that a run's servers must not keep.
//!
//! A run's servers outlive the program that started them (`cargo xtask kind create`). An inherited
//! descriptor would keep a lock of the caller (`flock FILE cargo xtask …`) or the write end of its
//! pipe open for the servers' lifetime.

use std::fs;
use std::os::fd::RawFd;

use anyhow::{Context as _, Result};
use nix::errno::Errno;

/// Closes every descriptor except standard input, output and error. Must be called before this
/// process opens its first one, which would be closed too. Rust opens files with close-on-exec, so
/// later ones are not inherited.
///
/// # Errors
/// Fails if the descriptors cannot be listed or closed.
pub fn close_inherited() -> Result<()> {
    let entries = fs::read_dir("/proc/self/fd").context("list the descriptors of this process")?;
    let names: Vec<_> = entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()
        .context("list descriptors")?;
    let descriptors = names
        .iter()
        .filter_map(|name| name.to_str()?.parse::<RawFd>().ok());
    for descriptor in descriptors.filter(|&descriptor| descriptor > 2) {
        match nix::unistd::close(descriptor) {
            // The descriptor of the listing itself.
            Ok(()) | Err(Errno::EBADF) => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("close the inherited descriptor {descriptor}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Run;

    /// Set for the child process that closes its inherited descriptors.
    const CHILD: &str = "TESTBED_DESCRIPTORS_CHILD";

    #[test]
    fn programs_inherit_no_descriptor_of_the_caller() {
        if std::env::var_os(CHILD).is_some() {
            close_inherited().unwrap();
            println!(
                "inherited: {}",
                Run::new("ls")
                    .arg("/proc/self/fd")
                    .text()
                    .unwrap()
                    .replace('\n', " ")
            );
            return;
        }
        let test = "descriptors::tests::programs_inherit_no_descriptor_of_the_caller";
        let script = "exec 7</dev/null; exec 23</dev/null; exec \"$0\" --exact \"$1\" --nocapture \
                      --test-threads=1";
        let program = std::env::current_exe().unwrap();
        let printed = Run::new("bash")
            .args(["-c", script])
            .arg(program)
            .arg(test)
            .env(CHILD, "1")
            .text()
            .unwrap();
        // The last one is that of the listing itself.
        assert!(
            printed
                .lines()
                .any(|line| line.ends_with("inherited: 0 1 2 3")),
            "{printed}"
        );
    }
}
