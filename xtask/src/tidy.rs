//! `cargo xtask tidy`: house rules that no lint can see. Each rule decides on the tree's texts
//! alone:
//!
//! * [`size`]: files and their inline tests stay short enough to be read in one go.
//! * [`reach`]: every Rust file is part of a crate.
//! * [`words`]: how files are named and begin, and what no file may mention.
//! * [`workspace`]: allowed dependencies between our crates, and workspace dependencies that no
//!   crate uses.
//! * [`examples`]: every example is complete.
//! * [`documents`]: what documents point at is there.
//! * [`decisions`]: decision records are numbered and have a status.

use std::fmt;

use anyhow::{Result, bail};
use testbed::progress;

mod tree;
mod size;
mod reach;
mod words;
mod workspace;
mod examples;
mod documents;
mod decisions;

use tree::Tree;
use workspace::Workspace;

/// House rules that no lint can see.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Args {}

/// A rule that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, and perhaps the line.
    place: String,
    /// What is wrong there, and what to do.
    what: String,
}

impl Finding {
    fn new(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self {
            place: place.to_string(),
            what: what.to_string(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args {} = args;
    let findings = check()?;
    for finding in &findings {
        progress::say(finding);
    }
    if !findings.is_empty() {
        bail!(
            "{} of the tree's rules are broken (CONTRIBUTING.md says why they are there)",
            findings.len()
        );
    }
    progress::say("the tree is tidy");
    Ok(())
}

/// Every rule that does not hold in this checkout, in the order of the files.
pub(crate) fn check() -> Result<Vec<Finding>> {
    let tree = Tree::of_checkout()?;
    let workspace = Workspace::of_checkout()?;
    let mut findings = [
        size::check(&tree),
        reach::check(&tree, &workspace.roots()),
        words::check(&tree),
        workspace.check_arrows(),
        workspace.check_unused(&tree)?,
        examples::check(&tree),
        documents::check(&tree),
        decisions::check(&tree),
    ]
    .concat();
    findings.sort();
    Ok(findings)
}
