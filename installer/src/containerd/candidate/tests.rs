//! Candidates: imports and copies.

use std::collections::BTreeMap;

use installer_protocol::ConfigMode;
use installer_protocol::layout::Restarter;

use super::super::version::Version;
use super::*;

const MAIN: &str = "/etc/containerd/config.toml";

fn facts(configuration: Configuration, files: &[(&str, &str)]) -> ConfigFacts {
    let mut folders: BTreeMap<String, Option<Vec<String>>> = BTreeMap::new();
    for (path, _) in files {
        let names = folders
            .entry(parent(path).to_owned())
            .or_insert_with(|| Some(Vec::new()));
        names.as_mut().unwrap().push(imports::name(path).to_owned());
    }
    ConfigFacts {
        version: Version::parse("2.4.2").unwrap(),
        mode: ConfigMode::Auto,
        base: "/opt/wasmedge-runtime".to_owned(),
        main: MAIN.to_owned(),
        configuration,
        restarter: Restarter::Installer,
        files: files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), Some(text.as_bytes().to_vec())))
            .collect(),
        folders,
        loaded: files.iter().map(|(path, _)| (*path).to_owned()).collect(),
    }
}

fn change(path: &str, after: Option<&str>) -> FileChange {
    FileChange {
        path: path.to_owned(),
        before: None,
        after: after.map(|text| text.as_bytes().to_vec()),
    }
}

fn imports_of(candidate: &CandidateConfig) -> Vec<String> {
    let (_, main) = candidate
        .files
        .iter()
        .find(|(path, _)| *path == candidate.main)
        .unwrap();
    let text = String::from_utf8(main.clone()).unwrap();
    imports::of(
        &candidate.main,
        schema::parse("/c", &text).unwrap().as_table(),
        Version::parse("2.4.2").unwrap(),
    )
}

#[test]
fn candidate_without_changes_is_the_nodes_own_main_file() {
    let facts = facts(Configuration::MainFile, &[(MAIN, "version = 3\n")]);
    assert_eq!(
        lay_out(&facts, &[], "a").unwrap(),
        CandidateConfig {
            main: MAIN.to_owned(),
            files: Vec::new()
        }
    );
}

#[test]
fn imports_of_a_candidate_resolve_as_in_the_real_folder_with_edited_files() {
    let main = "imports = [\"conf.d/*.toml\", \"../x.toml\", \"/odd/[a]*.toml\"]\n";
    let files = [
        (MAIN, main),
        ("/etc/containerd/conf.d/a.toml", ""),
        ("/etc/containerd/conf.d/c.toml", ""),
        ("/etc/containerd/conf.d/d.toml", ""),
    ];
    let facts = facts(Configuration::MainFile, &files);
    let changes = [
        change("/etc/containerd/conf.d/b.toml", Some("b = 1")),
        change("/etc/containerd/conf.d/c.toml", Some("c = 1")),
        change("/etc/containerd/conf.d/d.toml", None),
    ];
    let candidate = lay_out(&facts, &changes, "a").unwrap();
    let copy = |number: usize| format!("/etc/containerd/{FOLDER}/{number}.candidate");
    assert_eq!(
        imports_of(&candidate),
        [
            "/etc/containerd/conf.d/a.toml",
            &copy(0),
            &copy(1),
            "/etc/x.toml",
            "/odd/[a]*.toml"
        ]
    );
    assert_eq!(
        candidate.files[..2],
        [(copy(0), b"b = 1".to_vec()), (copy(1), b"c = 1".to_vec())]
    );
}

#[test]
fn absent_main_file_is_treated_as_empty() {
    let mut facts = facts(Configuration::MainFile, &[]);
    facts.files.insert(MAIN.to_owned(), None);
    let candidate = lay_out(&facts, &[], "a").unwrap();
    assert_eq!(candidate.files, [(candidate.main.clone(), Vec::new())]);
}

#[test]
fn candidate_on_k0s_has_the_handler_in_the_generated_file() {
    let folder = "/etc/k0s/containerd.d".to_owned();
    let drop_in = super::super::drop_in::path(&folder, "a");
    let generated = "/run/k0s/containerd-cri.toml";
    let runtimes = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes";
    let files = [
        (MAIN, "imports = ['/run/k0s/containerd-cri.toml']\n"),
        (
            generated,
            &format!("version = 3\n[{runtimes}.a]\nold = 1\n[{runtimes}.b]\n"),
        ),
    ];
    let facts = facts(Configuration::Watched { folder }, &files);
    for (change, handlers) in [
        (
            vec![change(
                &drop_in,
                Some(&format!("[{runtimes}.a]\nnew = 1\n")),
            )],
            vec!["a", "b"],
        ),
        (vec![], vec!["b"]),
    ] {
        let candidate = lay_out(&facts, &change, "a").unwrap();
        assert_eq!(imports_of(&candidate), [candidate.files[0].0.clone()]);
        let text = String::from_utf8(candidate.files[0].1.clone()).unwrap();
        assert_eq!(
            schema::handlers(schema::parse("/c", &text).unwrap().as_table()),
            handlers,
            "{text}"
        );
        assert!(!text.contains("old"), "{text}");
    }
}
