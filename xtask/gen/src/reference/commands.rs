//! `docs/reference/operator-cli.md` and `installer-cli.md`: what each program says of itself.

use std::fmt::Write as _;

use clap::Command;

use crate::Generated;

/// Columns of a help text, whatever the terminal of who generates it.
const WIDTH: usize = 110;

pub(super) fn operator() -> Generated {
    let introduction = "The operator's program. The chart gives it all of this; every option is an environment variable too.";
    super::page("operator-cli", "wasmedge-operator", &format!("{introduction}\n\n{}", help(wasmedge_operator::cli::command())))
}

/// What the command and all below it say of themselves.
fn help(command: Command) -> String {
    // What a variable is set to here is nothing to tell.
    let mut command = hide_values(command.term_width(WIDTH)).disable_help_subcommand(true);
    command.build();
    let mut text = String::new();
    describe(&mut text, &mut command);
    text
}

fn hide_values(command: Command) -> Command {
    command.mut_args(|arg| arg.hide_env_values(true)).mut_subcommands(hide_values)
}

fn describe(text: &mut String, command: &mut Command) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let _ = write!(text, "## {name}\n\n```text\n{}\n```\n\n", command.render_long_help().to_string().trim());
    for inner in command.get_subcommands_mut() {
        describe(text, inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_described_and_no_value_of_a_variable_shown() {
        let inner = Command::new("inner").about("Does it").arg(clap::Arg::new("path").long("path").env("PATH"));
        let text = help(Command::new("outer").subcommand(inner));
        assert!(text.contains("## outer\n") && text.contains("## outer inner\n"), "{text}");
        assert!(text.contains("[env: PATH]") && !text.contains("/bin"), "{text}");
    }
}
