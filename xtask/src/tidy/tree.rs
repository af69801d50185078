//! The files of this checkout that git tracks, or would add at the next commit.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use testbed::command::Run;
use testbed::requirements::{self, Need};

use crate::setup;

/// All files, sorted by path.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) files: Vec<File>,
}

#[derive(Debug)]
pub(super) struct File {
    /// The path from the root of the repository.
    pub(super) path: String,
    pub(super) content: Content,
}

/// The content of a file.
#[derive(Debug)]
pub(super) enum Content {
    Text(String),
    /// Not UTF-8, or with a NUL byte.
    Binary,
}

impl Tree {
    pub(super) fn of_checkout() -> Result<Self> {
        requirements::install(&[Need {
            package: "git",
            provides: "git",
        }])?;
        let root = setup::repository();
        ensure!(
            root.join(".git").exists(),
            "{} is not a git checkout: its files are unknown",
            root.display()
        );
        // Root may read a checkout of another user.
        let listed = Run::new("git")
            .args([
                "-c",
                "safe.directory=*",
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(&root)
            .text()?;
        let mut files = Vec::new();
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            let place = root.join(path);
            // A link leads to a file that is checked by itself; a file that git tracks may have
            // been removed.
            if place.is_symlink() || !place.is_file() {
                continue;
            }
            let bytes = fs::read(&place).with_context(|| format!("read {path}"))?;
            files.push(File {
                path: path.to_owned(),
                content: Content::of(bytes),
            });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    /// Returns every text with its path.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|file| match &file.content {
            Content::Text(text) => Some((file.path.as_str(), text.as_str())),
            Content::Binary => None,
        })
    }

    /// Returns every Rust source with its path.
    pub(super) fn sources(&self) -> impl Iterator<Item = (&str, &str)> {
        self.with_extension("rs")
    }

    /// Returns every Markdown document with its path.
    pub(super) fn documents(&self) -> impl Iterator<Item = (&str, &str)> {
        self.with_extension("md")
    }

    fn with_extension(&self, extension: &'static str) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(move |(path, _)| {
            Path::new(path)
                .extension()
                .is_some_and(|found| found == extension)
        })
    }

    /// Returns whether there is a file, or a folder with files, at `path`.
    pub(super) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.files.iter().any(|file| {
            file.path
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

impl Content {
    fn of(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => Self::Text(text),
            _ => Self::Binary,
        }
    }
}

#[cfg(test)]
impl Tree {
    /// Makes a tree of texts.
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).to_owned(),
            content: Content::of(text.as_bytes().to_vec()),
        };
        Self {
            files: files.iter().map(file).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_text_are_binary() {
        assert!(matches!(Content::of(b"\0asm".to_vec()), Content::Binary));
        assert!(matches!(Content::of(vec![0xff]), Content::Binary));
        assert!(matches!(Content::of("grün".into()), Content::Text(_)));
    }

    #[test]
    fn folder_exists_if_it_contains_a_file() {
        let tree = Tree::of(&[("shim/src/lib.rs", "")]);
        for (path, there) in [
            ("shim/src/lib.rs", true),
            ("shim/src/", true),
            ("shim", true),
            ("shim/sr", false),
            ("docs", false),
        ] {
            assert_eq!(tree.has(path), there, "{path}");
        }
    }
}
