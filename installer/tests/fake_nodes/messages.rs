//! The fields of the API that messages name.

use std::fs;
use std::path::Path;

/// Returns the texts of all sources below a folder.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let of = |path: std::path::PathBuf| {
        if path.is_dir() {
            sources(&path)
        } else {
            vec![(
                path.display().to_string(),
                fs::read_to_string(&path).unwrap(),
            )]
        }
    };
    entries.flat_map(of).collect()
}

#[test]
fn message_that_names_a_spec_field_names_a_field_of_the_api() {
    let installer = Path::new(env!("CARGO_MANIFEST_DIR"));
    let api = fs::read_to_string(installer.join("../docs/reference/crd.md")).unwrap();
    let mut found = 0;
    for folder in ["src", "protocol/src"] {
        for (file, text) in sources(&installer.join(folder)) {
            for (at, _) in text.match_indices("spec.") {
                let after = &text[at + "spec.".len()..];
                let end = after
                    .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.')
                    .unwrap_or(after.len());
                let field = after[..end].trim_end_matches('.');
                assert!(
                    api.contains(&format!("\n| `{field}` |")),
                    "{file} names spec.{field}, which docs/reference/crd.md does not have"
                );
                found += 1;
            }
        }
    }
    assert!(found > 2, "{found}");
}
