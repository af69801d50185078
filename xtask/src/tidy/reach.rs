//! Every Rust file is part of a crate. A file without a `mod` line that leads to it is never
//! compiled, and rots unnoticed.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::tree::Tree;

/// Checks the tree. `roots` are the source files that cargo starts from in the workspace; other
/// packages of the tree have the usual roots.
pub(super) fn check(tree: &Tree, roots: &[String]) -> Vec<Finding> {
    let sources: BTreeMap<&str, &str> = tree.sources().collect();
    let manifests = tree
        .texts()
        .filter_map(|(path, _)| path.strip_suffix("Cargo.toml"));
    let usual = manifests
        .flat_map(|folder| ["src/main.rs", "src/lib.rs"].map(|root| format!("{folder}{root}")));
    let mut reached = BTreeSet::new();
    let mut open: Vec<(String, String)> = roots
        .iter()
        .cloned()
        .chain(usual)
        .map(|root| (folder_of(&root).to_owned(), root))
        .collect();
    while let Some((folder, file)) = open.pop() {
        let Some(text) = sources.get(file.as_str()) else {
            continue;
        };
        if !reached.insert(file.clone()) {
            continue;
        }
        for module in modules(text) {
            open.extend(places(&folder, &file, &module));
        }
    }
    let stray = sources.keys().filter(|path| !reached.contains(**path));
    stray
        .map(|path| {
            Finding::new(
                path,
                "no `mod` line leads here from the root of a crate: add one, or remove the file",
            )
        })
        .collect()
}

/// A `mod name;` line.
#[derive(Debug, PartialEq, Eq)]
struct Module {
    name: String,
    /// Its `#[path = "…"]`.
    path: Option<String>,
}

fn modules(text: &str) -> Vec<Module> {
    let mut path = None;
    let mut modules = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            path = rest.split_once('"').map(|(path, _)| path.to_owned());
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [visibility @ .., "mod", name] = words.as_slice()
            && visibility.iter().all(|word| word.starts_with("pub"))
            && let Some(name) = name.strip_suffix(';')
        {
            modules.push(Module {
                name: name.to_owned(),
                path: path.take(),
            });
        }
    }
    modules
}

/// Returns the possible paths of `file`'s module, each with the folder of its own modules.
fn places(folder: &str, file: &str, module: &Module) -> Vec<(String, String)> {
    let Module { name, path } = module;
    if let Some(path) = path {
        let place = format!("{}{path}", folder_of(file));
        return vec![(format!("{}/", place.trim_end_matches(".rs")), place)];
    }
    let inner = format!("{folder}{name}/");
    vec![
        (inner.clone(), format!("{folder}{name}.rs")),
        (inner.clone(), format!("{inner}mod.rs")),
    ]
}

/// Returns the folder of a file, with its slash; nothing for a file at the root.
fn folder_of(file: &str) -> &str {
    file.rsplit_once('/')
        .map_or("", |(folder, _)| &file[..=folder.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_without_a_mod_line_is_found() {
        let tree = Tree::of(&[
            (
                "shim/src/lib.rs",
                "pub mod a;\npub(crate) mod b;\n#[cfg(test)]\nmod tests;\n",
            ),
            ("shim/src/a.rs", "mod inner;\nfn mod_x() {}\n"),
            ("shim/src/a/inner.rs", ""),
            ("shim/src/b.rs", "// mod lost;\n"),
            ("shim/src/b/lost.rs", ""),
            ("shim/src/tests.rs", ""),
            (
                "shim/tests/node.rs",
                "#[path = \"node/run.rs\"]\nmod run;\n",
            ),
            ("shim/tests/node/run.rs", "mod deep;\n"),
            ("shim/tests/node/run/deep.rs", ""),
            ("examples/x/Cargo.toml", "[package]"),
            ("examples/x/src/main.rs", ""),
        ]);
        let found = check(
            &tree,
            &[
                "shim/src/lib.rs".to_owned(),
                "shim/tests/node.rs".to_owned(),
            ],
        );
        assert_eq!(
            found
                .iter()
                .map(|finding| finding.place.as_str())
                .collect::<Vec<_>>(),
            ["shim/src/b/lost.rs"]
        );
    }
}
