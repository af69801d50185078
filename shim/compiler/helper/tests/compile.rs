//! Compilations, for real: as root, with the helper's programs on the libraries of the runtime
//! bundle, in cgroups of this machine. This program is their host, which has one thread when it
//! starts its forkers; and it is a helper that does what hostile bytes could make one do.
#![forbid(unsafe_code)]

#[path = "compile/acts.rs"]
mod acts;
#[path = "compile/confinement.rs"]
mod confinement;
#[path = "compile/host.rs"]
mod host;
#[path = "compile/limits.rs"]
mod limits;
#[path = "compile/modules.rs"]
mod modules;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

type Test = fn() -> anyhow::Result<()>;

const TESTS: &[(&str, Test)] = &[
    (
        "module_compiles_with_each_engine_and_tier",
        modules::each_backend,
    ),
    ("text_is_compiled_as_its_binary_form", modules::text),
    (
        "native_code_in_a_module_leaves_no_trace_in_its_artifact",
        modules::native_code,
    ),
    (
        "module_that_is_not_valid_is_refused_with_the_reason",
        modules::invalid,
    ),
    (
        "module_that_was_changed_is_not_compiled_and_not_a_failure",
        modules::changed,
    ),
    ("module_is_copied_for_a_later_compilation", modules::copy),
    (
        "helper_without_its_program_is_a_failure_of_the_node",
        modules::no_program,
    ),
    (
        "helper_reaches_no_file_network_process_or_program",
        confinement::from_inside,
    ),
    (
        "helper_has_no_privilege_and_no_descriptor_of_the_host",
        confinement::from_outside,
    ),
    ("helper_ends_with_its_host", confinement::dies_with_host),
    (
        "cancelled_compilation_leaves_nothing",
        confinement::cancelled,
    ),
    ("crash_is_a_failure_of_the_module", limits::crash),
    (
        "endless_compilation_ends_at_its_processor_time",
        limits::cpu_time,
    ),
    (
        "compilation_that_waits_ends_at_its_deadline",
        limits::deadline,
    ),
    (
        "compilation_cannot_use_more_than_its_memory",
        limits::memory,
    ),
    ("compiled_code_cannot_be_larger_than_allowed", limits::size),
    (
        "helper_that_floods_its_output_is_not_blocked",
        limits::output,
    ),
];

fn main() -> ExitCode {
    if let Some(code) = acts::act_as_helper().or_else(host::act) {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Two processors, and limits of time.
    arguments.test_threads = Some(1);
    let root = rustix::process::geteuid().is_root();
    if root {
        host::start().expect("a process with one thread can fork");
    }
    let trials = TESTS.iter().map(|&(name, test)| {
        let name = if root {
            name.to_owned()
        } else {
            format!("{name} (skipped: needs root)")
        };
        Trial::test(name, move || {
            test().map_err(|error| Failed::from(format!("{error:#}")))
        })
        .with_ignored_flag(!root)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
