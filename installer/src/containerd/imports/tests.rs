//! Imports: resolved, added and removed.

use super::*;

const ENTRY: &str = "/etc/containerd/wasmedge-runtime.d/*.toml";

fn added(text: &str) -> String {
    add("/c", text, ENTRY).unwrap()
}

#[test]
fn import_is_appended_and_removed_without_other_changes() {
    for (text, expected) in [
        ("imports = []\n", "imports = [\"E\"]\n"),
        ("imports = ['a']", "imports = ['a', \"E\"]"),
        (
            "imports = [\n  'a', # one\n  'b', # two\n]\n",
            "imports = [\n  'a', # one\n  'b', \"E\", # two\n]\n",
        ),
        ("imports = [ # none\n]", "imports = [\"E\" # none\n]"),
        (
            "version = 2 # two\nroot = 'r'\n",
            "version = 2 # two\nC\nimports = [\"E\"]\nroot = 'r'\n",
        ),
        ("version = 2", "version = 2\nC\nimports = [\"E\"]"),
        (
            "version = 2\r\n[debug]\r\n",
            "version = 2\nC\nimports = [\"E\"]\r\n[debug]\r\n",
        ),
        ("[debug]\n", "C\nimports = [\"E\"]\n[debug]\n"),
        ("", "C\nimports = [\"E\"]\n"),
    ] {
        let text_with = added(text);
        assert_eq!(
            text_with,
            expected.replace('E', ENTRY).replace('C', COMMENT),
            "{text}"
        );
        assert_eq!(added(&text_with), text_with);
        assert_eq!(take("/c", &text_with, ENTRY).unwrap(), text);
    }
}

#[test]
fn imports_that_were_added_later_stay() {
    for (text, expected) in [
        (
            "version = 2\nC\nimports = [\"E\", 'x']\n",
            "version = 2\nimports = ['x']\n",
        ),
        ("imports = [\"E\", 'x', 'y']\n", "imports = ['x', 'y']\n"),
        ("imports = ['x',\"E\"]\n", "imports = ['x']\n"),
        ("imports = ['x', \"E\", 'y']\n", "imports = ['x', 'y']\n"),
    ] {
        let text = text.replace('E', ENTRY).replace('C', COMMENT);
        assert_eq!(take("/c", &text, ENTRY).unwrap(), expected, "{text}");
    }
}

#[test]
fn text_without_our_import_is_not_changed() {
    for text in ["", "imports = ['a']", "version = 2\n"] {
        assert_eq!(take("/c", text, ENTRY).unwrap(), text);
        assert!(!has("/c", text, ENTRY).unwrap());
    }
    add("/c", "imports = 'a'", ENTRY).unwrap_err();
}

#[test]
fn relative_imports_resolve_from_the_files_folder_except_patterns_of_old_containerds() {
    let text = "imports = ['a.toml', './conf.d//*.toml', '../b.toml', '/x/../y*.toml']";
    let document = schema::parse("/c", text).unwrap();
    for (containerd, pattern) in [
        ("1.6.28", "./conf.d//*.toml"),
        ("1.6.30", "/etc/containerd/conf.d/*.toml"),
        ("1.7.15", "./conf.d//*.toml"),
        ("1.7.16", "/etc/containerd/conf.d/*.toml"),
        ("2.0.0", "/etc/containerd/conf.d/*.toml"),
    ] {
        let paths = of(
            "/etc/containerd/config.toml",
            document.as_table(),
            Version::parse(containerd).unwrap(),
        );
        assert_eq!(
            paths,
            ["/etc/containerd/a.toml", pattern, "/etc/b.toml", "/y*.toml"],
            "{containerd}"
        );
    }
    assert!(!covers("conf.d/*.toml", "conf.d/a.toml"));
}

#[test]
fn pattern_matches_only_names_in_its_folder() {
    for (pattern, path, means) in [
        ("/a/*.toml", "/a/b.toml", true),
        ("/a/*.toml", "/a/.toml", true),
        ("/a/*.toml", "/a/b.toml.bak", false),
        ("/a/*.toml", "/a/b/c.toml", false),
        ("/a/?-*.toml", "/a/1-b.toml", true),
        ("/a/?-*.toml", "/a/-b.toml", false),
        ("/a/b.toml", "/a/b.toml", true),
        ("/a/?.toml", "/a/b.toml", false),
        ("/*/b.toml", "/a/b.toml", false),
        ("/a/[b]*.toml", "/a/b.toml", false),
    ] {
        assert_eq!(covers(pattern, path), means, "{pattern} {path}");
    }
}
