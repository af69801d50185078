//! `cargo xtask tidy`: house rules that no lint can check. Each rule decides on the tree's texts
//! alone:
//!
//! - [`size`]: files and their inline tests are short enough to be read in one go.
//! - [`reach`]: every Rust file is part of a crate.
//! - [`words`]: file names, headers, and forbidden texts.
//! - [`workspace`]: allowed dependencies between our crates, and workspace dependencies that no
//!   crate uses.
//! - [`examples`]: every example is complete.
//! - [`documents`]: references in documents exist, and lines have a bounded width.
//! - [`prose`]: words of comments, messages and documents, headers, and names of constants.
//! - [`decisions`]: decision records are numbered and have a status.

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
mod prose;
mod decisions;

use tree::Tree;
use workspace::Workspace;

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Args {}

/// A violation of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, and perhaps the line.
    place: String,
    /// The violation and the remedy.
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
        progress::print_line(finding);
    }
    if !findings.is_empty() {
        bail!(
            "{} violations of the tree's rules (CONTRIBUTING.md explains them)",
            findings.len()
        );
    }
    progress::print_line("the tree is tidy");
    Ok(())
}

/// Returns all violations in this checkout, sorted by file.
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
        prose::check(&tree),
        decisions::check(&tree),
    ]
    .concat();
    findings.sort();
    Ok(findings)
}
