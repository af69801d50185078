//! The command line.

use std::path::PathBuf;

use artifact_store::Percent;
use clap::{Args, Parser, Subcommand};
use runtime_options::HandlerOptions;

use crate::report::Format;
use crate::select::Prefix;

/// Bytes of a MiB.
const MIB: u64 = 1024 * 1024;

/// Lists, verifies and removes the compiled guests of this node
#[derive(Debug, Parser)]
#[command(name = "artifacts", version)]
pub(crate) struct Arguments {
    /// Folder of the artifact store: the option `artifactStore` of the node's handlers
    #[arg(long, global = true, value_name = "DIR", default_value_os_t = default_store())]
    pub(crate) store: PathBuf,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List all artifacts, the last used one first, and compiles that failed
    List,
    /// Compare artifacts with their digests; fails if one is damaged
    Verify {
        /// Keys, or their first digits; without one, all artifacts
        #[arg(value_name = "KEY")]
        keys: Vec<Prefix>,
    },
    /// Remove artifacts that are not in use, and forget compiles that failed
    Remove {
        /// Keys, or their first digits
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<Prefix>,
    },
    /// Remove what is unfinished and outdated, and artifacts above a limit
    Gc(Limits),
}

/// Limits that a collection keeps. Without one, nothing is evicted: those of the node's handlers
/// are kept by their hosts.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Limits {
    /// Evict the least recently used artifacts until the store has at most N MiB
    #[arg(long, value_name = "N")]
    max_mib: Option<u64>,
    /// Evict until the store takes at most N percent of its file system
    #[arg(long, value_name = "N", value_parser = percent)]
    pub(crate) max_disk_percent: Option<Percent>,
}

impl Arguments {
    pub(crate) fn format(&self) -> Format {
        if self.json {
            Format::Json
        } else {
            Format::Table
        }
    }
}

impl Limits {
    pub(crate) fn max_bytes(&self) -> u64 {
        self.max_mib.map_or(u64::MAX, |mib| mib.saturating_mul(MIB))
    }
}

fn default_store() -> PathBuf {
    let options = HandlerOptions::default();
    options.artifact_store.as_path().to_owned()
}

fn percent(text: &str) -> Result<Percent, String> {
    text.parse()
        .ok()
        .and_then(Percent::new)
        .ok_or_else(|| "it is a number from 1 to 100".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn collection_without_a_limit_evicts_nothing() {
        let limits = |words: &[&str]| {
            let arguments = [&["artifacts", "gc"], words].concat();
            match Arguments::try_parse_from(arguments).unwrap().command {
                Command::Gc(limits) => (limits.max_bytes(), limits.max_disk_percent),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(limits(&[]), (u64::MAX, None));
        assert_eq!(limits(&["--max-mib", "3"]), (3 * MIB, None));
        let percent = limits(&["--max-disk-percent", "7"]).1;
        assert_eq!(percent, Percent::new(7));
        for wrong in [&["--max-disk-percent", "0"], &["--max-disk-percent", "101"]] {
            Arguments::try_parse_from([&["artifacts", "gc"], &wrong[..]].concat()).unwrap_err();
        }
    }

    #[test]
    fn removal_needs_a_key() {
        Arguments::try_parse_from(["artifacts", "remove"]).unwrap_err();
        Arguments::try_parse_from(["artifacts", "remove", "ABCD"]).unwrap_err();
        Arguments::try_parse_from(["artifacts", "remove", "abcd", "--json"]).unwrap();
    }
}
