//! The Debian mirror of this machine, read from its apt configuration in both forms of a sources
//! file.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

/// Returns the address of the Debian archive in the apt configuration under `etc` (`/etc/apt`).
pub(super) fn of_machine(etc: &Path) -> Result<String> {
    let mut files = vec![etc.join("sources.list")];
    if let Ok(entries) = fs::read_dir(etc.join("sources.list.d")) {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files[1..].sort();
    for file in &files {
        let Ok(text) = fs::read_to_string(file) else {
            continue;
        };
        let found = match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => in_stanzas(&text),
            Some("list") => in_lines(&text),
            _ => None,
        };
        if let Some(address) = found {
            return Ok(address);
        }
    }
    bail!(
        "no Debian mirror stands in {0}/sources.list or {0}/sources.list.d: add one there (a `deb` \
         line with an address that ends in /debian), \
         then run this again",
        etc.display()
    );
}

/// Finds the first Debian archive in one-line form: `deb [options] ADDRESS SUITE COMPONENT…`.
fn in_lines(text: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("deb "))
        .filter_map(|rest| match rest.trim_start().strip_prefix('[') {
            Some(options) => options.split_once(']').map(|(_, rest)| rest),
            None => Some(rest),
        })
        .filter_map(|rest| rest.split_whitespace().next())
        .find(|address| is_debian(address))
        .map(str::to_owned)
}

/// Finds the first Debian archive in stanza form (deb822) in an enabled stanza of binary packages.
fn in_stanzas(text: &str) -> Option<String> {
    let text = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n");
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| {
            let start = |line: &str| {
                line.split_once(':')
                    .filter(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, v)| v.to_owned())
            };
            let mut lines = stanza.lines();
            let first = lines.find_map(start)?;
            let more = lines.take_while(|line| line.starts_with([' ', '\t']));
            Some(more.fold(first, |all, line| all + " " + line))
        };
        if field("Enabled").is_some_and(|value| matches!(value.trim(), "no" | "false")) {
            return None;
        }
        field("Types").filter(|types| types.split_whitespace().any(|kind| kind == "deb"))?;
        field("URIs")?
            .split_whitespace()
            .find(|address| is_debian(address))
            .map(str::to_owned)
    })
}

/// Returns whether `address` is that of Debian's main archive, not its security archive or another
/// vendor's. `debian.list` is the mirror list of Debian's cloud images.
fn is_debian(address: &str) -> bool {
    address.contains(':')
        && address
            .split('/')
            .any(|part| part == "debian" || part == "debian.list")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_with_options_is_read() {
        let text = "# deb http://a.example/debian x main\ndeb-src http://b.example/debian x main\n\
                    deb [arch=amd64 signed-by=/k] http://c.example/debian/ x main\n";
        assert_eq!(in_lines(text).as_deref(), Some("http://c.example/debian/"));
    }

    #[test]
    fn only_debians_main_archive_is_taken() {
        assert_eq!(
            in_lines(
                "deb http://a.example/debian-security x main\ndeb http://b.example/apt y main\n"
            ),
            None
        );
    }

    #[test]
    fn stanza_is_read_if_it_is_enabled_and_binary() {
        let text = "Types: deb-src\nURIs: http://a.example/debian\n\nEnabled: no\nTypes: \
                    deb\nURIs: http://b.example/debian\n\n\
                    Types: deb\n# why\nURIs:\n http://c.example/other\n \
                    http://d.example/debian\nSuites: x\n";
        assert_eq!(in_stanzas(text).as_deref(), Some("http://d.example/debian"));
    }

    #[test]
    fn missing_mirror_error_names_the_file_to_edit() {
        let folder = tempfile::tempdir().unwrap();
        let error = of_machine(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("sources.list.d") && error.contains("add one"),
            "{error}"
        );
    }

    #[test]
    fn both_forms_of_sources_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sources.list.d")).unwrap();
        fs::write(
            folder.path().join("sources.list.d/x.sources"),
            "Types: deb\nURIs: http://a.example/debian\n",
        )
        .unwrap();
        assert_eq!(
            of_machine(folder.path()).unwrap(),
            "http://a.example/debian"
        );
        fs::write(
            folder.path().join("sources.list"),
            "deb http://b.example/debian x main\n",
        )
        .unwrap();
        assert_eq!(
            of_machine(folder.path()).unwrap(),
            "http://b.example/debian"
        );
    }
}
