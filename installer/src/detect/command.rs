//! The command by which a unit starts containerd: the flags that name files, with variables
//! resolved as systemd does and flags parsed as containerd does.

use std::collections::BTreeMap;

use systemd_client::Unit;

/// The main file of a containerd without `--config`.
pub const DEFAULT_CONFIG: &str = "/etc/containerd/config.toml";
const CONTAINERD: &str = "containerd";

/// The command of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartCommand {
    /// containerd itself, possibly through a program that executes it (`env`, `nice`).
    Containerd(Flags),
    /// Another program, such as a script or k3s, which may start containerd in any way.
    Other,
}

/// The flags of containerd that name files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config`.
    pub config: Flag,
    /// `--state`.
    pub state: Flag,
}

/// The value of a flag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Flag {
    /// The flag is not given.
    #[default]
    Absent,
    /// This value.
    Is(String),
    /// A value with a variable that only systemd can resolve; the word with the variable.
    Unclear(String),
}

/// A word of a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum CommandWord {
    Known(String),
    /// One word with an unknown text.
    Unknown(String),
    /// Any number of unknown words.
    Some(String),
}

impl StartCommand {
    /// Parses the command of `unit`. A unit without a known command starts [`Self::Other`].
    pub fn of(unit: &Unit) -> Self {
        let variables = Variables::of(unit);
        let program = unit
            .program
            .iter()
            .map(|program| CommandWord::Known(program.clone()));
        let mut words = program.chain(
            unit.arguments
                .iter()
                .skip(1)
                .flat_map(|word| variables.expand(word)),
        );
        let is_containerd = |word: CommandWord| {
            matches!(word,
            CommandWord::Known(text) if text.rsplit('/').next() == Some(CONTAINERD))
        };
        if words.any(is_containerd) {
            Self::Containerd(flags(words))
        } else {
            Self::Other
        }
    }
}

/// Parses the flags before the first other word. Of a flag that is given twice the last one counts,
/// as in containerd.
fn flags(mut words: impl Iterator<Item = CommandWord>) -> Flags {
    let mut flags = Flags::default();
    while let Some(word) = words.next() {
        let text = match word {
            CommandWord::Known(text) => text,
            CommandWord::Unknown(text) | CommandWord::Some(text) => {
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
        let value =
            match value.map_or_else(|| words.next(), |value| Some(CommandWord::Known(value))) {
                None => break,
                Some(CommandWord::Known(value)) => Flag::Is(value),
                Some(CommandWord::Unknown(word)) => Flag::Unclear(word),
                Some(CommandWord::Some(word)) => {
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

/// The environment variables of a unit.
struct Variables<'a> {
    known: BTreeMap<&'a str, &'a str>,
    /// Whether environment files, which the installer cannot read, may override them.
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

    /// Returns the words that systemd makes of one (systemd.service(5), command lines): `$NAME`
    /// alone becomes its value's words, `${NAME}` its value, `$$` a dollar.
    fn expand(&self, word: &str) -> Vec<CommandWord> {
        if let Some(name) = word.strip_prefix('$').filter(|name| is_name(name)) {
            return match self.known.get(name) {
                _ if self.has_files => vec![CommandWord::Some(word.to_owned())],
                Some(value) => value
                    .split_whitespace()
                    .map(|part| CommandWord::Known(part.trim_matches(['"', '\'']).to_owned()))
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
                    return vec![CommandWord::Unknown(word.to_owned())];
                }
                text.push_str(self.known.get(name).copied().unwrap_or_default());
                rest = after;
            } else {
                text.push('$');
                rest = after;
            }
        }
        vec![CommandWord::Known(text + rest)]
    }
}

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
        match StartCommand::of(&unit(words, environment, files)) {
            StartCommand::Containerd(flags) => flags.config,
            StartCommand::Other => panic!("{words:?} is not taken for containerd"),
        }
    }

    fn is(path: &str) -> Flag {
        Flag::Is(path.to_owned())
    }

    #[test]
    fn config_flag_is_parsed_in_every_form_that_containerd_accepts() {
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
    fn variables_of_the_unit_are_resolved_as_systemd_does() {
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
    fn value_from_an_environment_file_is_unclear_unless_a_later_flag_overrides_it() {
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
    fn state_flag_is_parsed_beside_config() {
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
            StartCommand::of(&unit),
            StartCommand::Containerd(Flags {
                config: is("/a"),
                state: is("/run/other")
            })
        );
    }

    #[test]
    fn other_program_may_start_containerd_in_any_way() {
        for words in [
            &["/usr/local/bin/k3s", "agent"][..],
            &["/bin/sh", "-c", "exec containerd --config /a"],
            &[],
        ] {
            assert_eq!(
                StartCommand::of(&unit(words, &[], &[])),
                StartCommand::Other,
                "{words:?}"
            );
        }
    }
}
