//! How a unit starts containerd: which of its flags name files, read from the unit's command and
//! variables as systemd and containerd read them.

use std::collections::BTreeMap;

use systemd_client::Unit;

/// The main file that a containerd without `--config` reads.
pub const DEFAULT_CONFIG: &str = "/etc/containerd/config.toml";
/// The name of the program.
const CONTAINERD: &str = "containerd";

/// What a unit starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// containerd itself, maybe through a program that becomes it (`env`, `nice`).
    Containerd(Flags),
    /// Another program, which may start containerd in any way: a script, k3s.
    Other,
}

/// The flags of containerd that matter here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config`.
    pub config: Flag,
    /// `--state`.
    pub state: Flag,
}

/// What a flag says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Flag {
    /// It is not there.
    #[default]
    Absent,
    /// This.
    Is(String),
    /// It depends on a word that only systemd can resolve; the word.
    Unclear(String),
}

/// A word of a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Known(String),
    /// One word whose text is not known.
    Unknown(String),
    /// Any number of words, none known.
    Some(String),
}

impl Command {
    /// Reads the command of `unit`; a unit whose command is not known starts something else.
    pub fn of(unit: &Unit) -> Self {
        let variables = Variables::of(unit);
        let program = unit
            .program
            .iter()
            .map(|program| Word::Known(program.clone()));
        let mut words = program.chain(
            unit.arguments
                .iter()
                .skip(1)
                .flat_map(|word| variables.expand(word)),
        );
        let is_containerd = |word: Word| {
            matches!(word,
            Word::Known(text) if text.rsplit('/').next() == Some(CONTAINERD))
        };
        if words.any(is_containerd) {
            Self::Containerd(flags(words))
        } else {
            Self::Other
        }
    }
}

/// The flags before the first word that is none. Of one that is given twice the last counts, as
/// containerd has it.
fn flags(mut words: impl Iterator<Item = Word>) -> Flags {
    let mut flags = Flags::default();
    while let Some(word) = words.next() {
        let text = match word {
            Word::Known(text) => text,
            Word::Unknown(text) | Word::Some(text) => {
                flags = Flags {
                    config: Flag::Unclear(text.clone()),
                    state: Flag::Unclear(text),
                };
                continue;
            }
        };
        let Some(name) = text
            .strip_prefix("--")
            .or_else(|| text.strip_prefix('-'))
            .filter(|name| !name.is_empty())
        else {
            break;
        };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        if !matches!(
            name,
            "config" | "c" | "state" | "root" | "address" | "a" | "log-level" | "l"
        ) {
            // A flag without a value.
            continue;
        }
        let value = match value.map_or_else(|| words.next(), |value| Some(Word::Known(value))) {
            None => break,
            Some(Word::Known(value)) => Flag::Is(value),
            Some(Word::Unknown(word)) => Flag::Unclear(word),
            Some(Word::Some(word)) => {
                flags = Flags {
                    config: Flag::Unclear(word.clone()),
                    state: Flag::Unclear(word),
                };
                continue;
            }
        };
        match name {
            "config" | "c" => flags.config = value,
            "state" => flags.state = value,
            _ => {}
        }
    }
    flags
}

/// A unit's variables.
struct Variables<'a> {
    known: BTreeMap<&'a str, &'a str>,
    /// Whether files, which an installer does not see, may set them otherwise.
    has_files: bool,
}

impl<'a> Variables<'a> {
    fn of(unit: &'a Unit) -> Self {
        Self {
            known: unit
                .environment
                .iter()
                .filter_map(|variable| variable.split_once('='))
                .collect(),
            has_files: !unit.environment_files.is_empty(),
        }
    }

    /// The words that systemd makes of one (systemd.service(5), command lines): `$NAME` alone
    /// becomes its value's words, `${NAME}` its value, `$$` a dollar.
    fn expand(&self, word: &str) -> Vec<Word> {
        if let Some(name) = word.strip_prefix('$').filter(|name| is_name(name)) {
            return match self.known.get(name) {
                _ if self.has_files => vec![Word::Some(word.to_owned())],
                Some(value) => value
                    .split_whitespace()
                    .map(|part| Word::Known(part.trim_matches(['"', '\'']).to_owned()))
                    .collect(),
                None => Vec::new(),
            };
        }
        let mut text = String::new();
        let mut rest = word;
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                text.push('$');
                rest = after;
            } else if let Some((name, after)) = after
                .strip_prefix('{')
                .and_then(|after| after.split_once('}'))
                .filter(|(name, _)| is_name(name))
            {
                if self.has_files {
                    return vec![Word::Unknown(word.to_owned())];
                }
                text.push_str(self.known.get(name).copied().unwrap_or_default());
                rest = after;
            } else {
                text.push('$');
                rest = after;
            }
        }
        vec![Word::Known(text + rest)]
    }
}

/// Whether a text can be a variable's name.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use systemd_client::{ActiveState, LoadState};

    use super::*;

    fn unit(words: &[&str], environment: &[&str], files: &[&str]) -> Unit {
        let texts = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        Unit {
            name: "containerd.service".to_owned(),
            load: LoadState::Loaded,
            active: ActiveState::Active,
            active_since: 1,
            main_pid: 1,
            program: words.first().map(|word| (*word).to_owned()),
            arguments: texts(words),
            environment: texts(environment),
            environment_files: texts(files),
            result: "success".to_owned(),
        }
    }

    fn config(words: &[&str], environment: &[&str], files: &[&str]) -> Flag {
        match Command::of(&unit(words, environment, files)) {
            Command::Containerd(flags) => flags.config,
            Command::Other => panic!("{words:?} is not taken for containerd"),
        }
    }

    fn is(path: &str) -> Flag {
        Flag::Is(path.to_owned())
    }

    #[test]
    fn the_config_flag_is_read_in_every_form_that_containerd_reads() {
        for (words, expected) in [
            (&["/usr/bin/containerd"][..], Flag::Absent),
            (&["/usr/bin/containerd", "--config", "/a"], is("/a")),
            (&["/usr/bin/containerd", "--config=/a"], is("/a")),
            (&["/usr/bin/containerd", "-config=/a"], is("/a")),
            (&["/usr/bin/containerd", "-c", "/a"], is("/a")),
            (
                &["/usr/bin/containerd", "-c=/a", "--config", "/b"],
                is("/b"),
            ),
            (
                &[
                    "/usr/bin/containerd",
                    "--root",
                    "/config",
                    "--log-level",
                    "-c",
                    "--config",
                    "/a",
                ],
                is("/a"),
            ),
            (
                &[
                    "/usr/bin/containerd",
                    "--log-level",
                    "debug",
                    "config",
                    "dump",
                    "--config",
                    "/a",
                ],
                Flag::Absent,
            ),
            (&["/usr/bin/containerd", "--config"], Flag::Absent),
            (
                &[
                    "/usr/bin/env",
                    "A=1",
                    "/opt/bin/containerd",
                    "--config",
                    "/a",
                ],
                is("/a"),
            ),
            (
                &["/usr/bin/nice", "-n", "-5", "containerd", "-c", "/a"],
                is("/a"),
            ),
        ] {
            assert_eq!(config(words, &[], &[]), expected, "{words:?}");
        }
    }

    #[test]
    fn variables_of_the_unit_are_replaced_as_systemd_does() {
        for (word, environment, expected) in [
            (
                "--config=${C}",
                &["C=/usr/share/containerd/config.toml"][..],
                is("/usr/share/containerd/config.toml"),
            ),
            ("--config=${A}${C}", &["A=/x", "C=/y z"], is("/x/y z")),
            (
                "$OPTIONS",
                &["OPTIONS=--log-level debug --config '/a'"],
                is("/a"),
            ),
            ("$OPTIONS", &["OPTIONS="], Flag::Absent),
            ("$OPTIONS", &[], Flag::Absent),
            ("--config=/a$$b", &[], is("/a$b")),
            ("--config=/a$C", &["C=x"], is("/a$C")),
        ] {
            assert_eq!(
                config(&["/usr/bin/containerd", word], environment, &[]),
                expected,
                "{word} {environment:?}"
            );
        }
    }

    #[test]
    fn what_files_of_variables_may_say_is_unclear_unless_a_later_flag_settles_it() {
        let files = &["/etc/default/containerd"];
        let unclear = |word: &str| Flag::Unclear(word.to_owned());
        for (words, expected) in [
            (
                &["/usr/bin/containerd", "--config", "${C}"][..],
                unclear("${C}"),
            ),
            (&["/usr/bin/containerd", "$OPTIONS"], unclear("$OPTIONS")),
            (
                &["/usr/bin/containerd", "--log-level", "$LEVEL"],
                unclear("$LEVEL"),
            ),
            (
                &["/usr/bin/containerd", "$OPTIONS", "--config", "/a"],
                is("/a"),
            ),
            (
                &["/usr/bin/containerd", "--root", "${P}/var/lib/containerd"],
                Flag::Absent,
            ),
            (&["/usr/bin/containerd", "--config", "/a"], is("/a")),
        ] {
            assert_eq!(config(words, &["C=/x"], files), expected, "{words:?}");
        }
    }

    #[test]
    fn the_state_flag_is_read_beside_it() {
        let unit = unit(
            &[
                "/usr/bin/containerd",
                "--state",
                "/run/other",
                "--config=/a",
            ],
            &[],
            &[],
        );
        assert_eq!(
            Command::of(&unit),
            Command::Containerd(Flags {
                config: is("/a"),
                state: is("/run/other")
            })
        );
    }

    #[test]
    fn a_program_that_is_not_containerd_may_start_it_in_any_way() {
        for words in [
            &["/usr/local/bin/k3s", "agent"][..],
            &["/bin/sh", "-c", "exec containerd --config /a"],
            &[],
        ] {
            assert_eq!(
                Command::of(&unit(words, &[], &[])),
                Command::Other,
                "{words:?}"
            );
        }
    }
}
