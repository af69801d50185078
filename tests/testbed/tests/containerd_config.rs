//! The node installer's edits of containerd's configuration, checked with real containerds of four
//! release lines: how each reads its files before, with and after this project's handlers. Part of
//! the node class.
//!
//! No containerd is started: each runs `config dump`. `cargo xtask test --class node` prepares the
//! programs and passes their paths; without that, every test is reported as ignored, with the
//! reason.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use testbed::program;

#[path = "containerd_config/daemon.rs"]
mod daemon;
#[path = "containerd_config/edits.rs"]
mod edits;
#[path = "containerd_config/machine_files.rs"]
mod machine_files;
#[path = "containerd_config/mains.rs"]
mod mains;
#[path = "containerd_config/traps.rs"]
mod traps;
#[path = "containerd_config/written_back.rs"]
mod written_back;

use daemon::Daemon;

/// A test: a rule, and the function that checks it on one containerd.
struct Test {
    name: &'static str,
    body: fn(&Daemon) -> Result<()>,
}

macro_rules! tests {
    ($($module:ident::$name:ident),+ $(,)?) => {
        const TESTS: &[Test] = &[$(Test { name: stringify!($name), body: $module::$name }),+];
    };
}

tests![
    edits::handler_without_a_main_file_is_added_and_removed,
    edits::handler_beside_kinds_settings_is_added_and_removed,
    edits::handler_beside_all_written_defaults_is_added_and_removed,
    edits::handler_beside_imported_settings_is_added_and_removed,
    edits::relative_import_pattern_is_resolved_as_containerd_does,
    edits::handler_in_the_main_file_itself_is_added_and_removed,
    edits::handler_beside_imports_and_line_ends_of_all_forms_is_added_and_removed,
    edits::handler_beside_a_rendered_main_file_is_added_and_removed,
    edits::handler_that_the_distribution_merges_is_proven_beforehand,
    edits::options_of_a_handler_are_read_by_containerd,
    edits::settings_of_an_admin_are_unchanged_by_a_handler,
    traps::effect_of_a_drop_in_in_the_main_files_schema_is_known,
    traps::effect_of_a_drop_in_in_another_schema_is_known,
    traps::effect_of_a_drop_in_that_names_its_schema_is_known,
    traps::a_drop_in_on_an_old_containerd_is_refused,
    traps::main_file_without_the_default_handler_is_never_written,
    traps::broken_main_file_is_left_unchanged,
    written_back::a_handler_in_a_merged_file_that_was_written_back_is_upgraded_and_removed,
    written_back::a_handler_in_a_merged_file_that_was_written_back_is_removed,
    written_back::two_handlers_in_a_merged_file_that_was_written_back_are_removed_one_by_one,
    written_back::handler_that_was_changed_in_a_merged_file_is_named_with_its_lines,
];

fn main() -> Result<ExitCode> {
    let args = Arguments::from_args();
    let all = TESTS.iter().map(|test| test.name);
    program::run(&args, "config", all, |run, prepared| {
        let mut trials = Vec::new();
        for daemon in Daemon::all(&prepared, run.folder())? {
            let daemon = Arc::new(daemon);
            for test in TESTS {
                let daemon = Arc::clone(&daemon);
                let name = format!("containerd_config::{}::{}", daemon.name, test.name);
                trials.push(Trial::test(name, move || {
                    (test.body)(&daemon).map_err(|error| Failed::from(format!("{error:#}")))
                }));
            }
        }
        Ok(trials)
    })
}
