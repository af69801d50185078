//! The manifests of `docs/samples`: each is stored unchanged.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::fixture::{answer, kubectl, repository};

fn samples() -> Vec<PathBuf> {
    let entries = fs::read_dir(repository().join("docs/samples")).expect("there are samples");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    files
}

fn stored(file: &Path) -> Value {
    let stored = answer(
        kubectl()
            .args(["create", "--dry-run=server", "-o", "json", "-f"])
            .arg(file),
    );
    assert!(stored.is_ok(), "{}: {stored:?}", file.display());
    stored.unwrap_or_default()
}

#[test]
fn every_sample_is_stored_unchanged() {
    let samples = samples();
    assert!(samples.len() >= 4, "{samples:?}");
    for file in &samples {
        assert_eq!(stored(file)["kind"], "WasmRuntime", "{}", file.display());
    }
}

#[test]
fn names_of_samples_are_unique() {
    let names: Vec<String> = samples()
        .iter()
        .map(|file| {
            stored(file)["metadata"]["name"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let mut once = names.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), names.len(), "{names:?}");
}
