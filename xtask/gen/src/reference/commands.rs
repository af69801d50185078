//! `docs/reference/operator-cli.md` and `installer-cli.md`: every command and option of each
//! program.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::table;
use crate::Generated;

pub(super) fn operator() -> Generated {
    let introduction =
        "The command line of the operator. The chart sets all options from its values.";
    super::page(
        "operator-cli",
        "wasmedge-operator",
        &format!(
            "{introduction}\n\n{}",
            describe(wasmedge_operator::cli::command())
        ),
    )
}

pub(super) fn installer() -> Generated {
    let introduction = "The command line of the installer. The operator starts it on a node, and \
                        writes the request.";
    super::page(
        "installer-cli",
        "node-installer",
        &format!(
            "{introduction}\n\n{}",
            describe(node_installer::program::command())
        ),
    )
}

/// Describes a command and all its subcommands.
fn describe(command: Command) -> String {
    // The command `help` and the options for help and version are left out.
    let command = command.disable_help_subcommand(true);
    let mut text = String::new();
    write(&mut text, "", &command);
    text
}

fn write(text: &mut String, above: &str, command: &Command) {
    let name = format!("{above}{}", command.get_name());
    let about = command
        .get_long_about()
        .or(command.get_about())
        .map(ToString::to_string)
        .unwrap_or_default();
    let _ = write!(text, "## {name}\n\n{}\n\n", sentence(&about));
    let options: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version"))
        .collect();
    if options.iter().any(|option| option.is_global_set()) {
        text.push_str("These options can be before or after any command below:\n\n");
    }
    if !options.is_empty() {
        let _ = writeln!(
            text,
            "{}",
            table(
                &["option", "variable", "default", "meaning"],
                options.into_iter().map(row)
            )
        );
    }
    for inner in command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set())
    {
        write(text, &format!("{name} "), inner);
    }
}

fn row(arg: &Arg) -> Vec<String> {
    let values: Vec<String> = arg
        .get_value_names()
        .into_iter()
        .flatten()
        .map(|name| format!(" {name}"))
        .collect();
    let takes_value = arg.get_action().takes_values();
    let option = format!(
        "`{}{}`",
        arg.get_long()
            .map(|long| format!("--{long}"))
            .unwrap_or_default(),
        if takes_value {
            values.concat()
        } else {
            String::new()
        }
    );
    let variable = arg
        .get_env()
        .map(|name| format!("`{}`", name.display()))
        .unwrap_or_default();
    let defaults: Vec<String> = arg
        .get_default_values()
        .iter()
        .map(|value| format!("`{}`", value.display()))
        .collect();
    let default = if arg.is_required_set() {
        "required".to_owned()
    } else {
        defaults.join(", ")
    };
    let help = arg
        .get_long_help()
        .or(arg.get_help())
        .map(ToString::to_string)
        .unwrap_or_default();
    vec![
        option,
        variable,
        if takes_value { default } else { String::new() },
        format!("{}{}", sentence(&help), possible(arg)),
    ]
}

/// Describes the possible values, if there is a list of them.
fn possible(arg: &Arg) -> String {
    if arg.is_hide_possible_values_set() || !arg.get_action().takes_values() {
        return String::new();
    }
    let value = |value: clap::builder::PossibleValue| match value.get_help() {
        Some(help) => format!("`{}` ({})", value.get_name(), help),
        None => format!("`{}`", value.get_name()),
    };
    let values: Vec<String> = arg.get_possible_values().into_iter().map(value).collect();
    if values.is_empty() {
        String::new()
    } else {
        format!(" One of {}.", values.join(", "))
    }
}

/// Adds the full stop that clap removes.
fn sentence(text: &str) -> String {
    if text.is_empty() || text.ends_with(['.', ':']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}

#[cfg(test)]
mod tests {
    use clap::ArgAction;

    use super::*;

    #[test]
    fn every_command_and_every_option_is_described() {
        let level = Arg::new("level")
            .long("level")
            .value_name("LEVEL")
            .value_parser(["high", "low"])
            .default_value("low")
            .global(true);
        let path = Arg::new("path")
            .long("path")
            .value_name("PATH")
            .env("PATH")
            .required(true)
            .help("Path of the file");
        let quiet = Arg::new("quiet")
            .long("quiet")
            .action(ArgAction::SetTrue)
            .help("Prints nothing");
        let text = describe(
            Command::new("outer")
                .arg(level)
                .subcommand(Command::new("inner").about("Runs it").arg(path).arg(quiet)),
        );
        for line in [
            "## outer",
            "| `--level LEVEL` |  | `low` | One of `high`, `low`. |",
            "## outer inner",
            "Runs it.",
            "| `--path PATH` | `PATH` | required | Path of the file. |",
            "| `--quiet` |  |  | Prints nothing. |",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "no {line:?} in {text}"
            );
        }
    }

    #[test]
    fn value_of_a_variable_on_this_machine_is_not_shown() {
        let path = Arg::new("path").long("path").env("PATH");
        assert!(!describe(Command::new("outer").arg(path)).contains("/bin"));
    }
}
