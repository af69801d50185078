//! Tests of native containers: as root, with a static program in a temporary folder, on this
//! machine's cgroups.
#![forbid(unsafe_code)]

#[path = "native/bundle.rs"]
mod bundle;
#[path = "native/faults.rs"]
mod faults;
#[path = "native/hostile.rs"]
mod hostile;
#[path = "native/hosts.rs"]
mod hosts;
#[path = "native/life.rs"]
mod life;
#[path = "native/process.rs"]
mod process;
#[path = "native/streams.rs"]
mod streams;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

type Test = fn() -> anyhow::Result<()>;

const TESTS: &[(&str, Test)] = &[
    ("container_waits_for_its_start_and_exits_with_its_programs_code",
    life::waits_for_its_start),
    ("fifty_containers_leave_nothing_behind", life::fifty_leave_nothing),
    ("two_containers_are_created_at_once", life::two_at_once),
    ("container_whose_process_was_killed_is_deleted", life::deleted_after_a_kill),
    ("running_container_is_killed_by_its_deletion", life::deleted_while_it_runs),
    ("container_that_was_never_started_is_deleted", life::deleted_before_its_start),
    ("container_is_deleted_twice_without_an_error", life::deleted_twice),
    ("container_is_not_started_twice", life::started_once),
    ("each_hook_runs_at_its_time", life::hooks_run),
    ("process_has_its_user_folder_variables_and_limits", process::as_specified),
    ("process_starts_with_no_signal_ignored_or_blocked", process::signals_are_fresh),
    ("process_has_no_descriptor_but_its_streams", process::descriptors_are_its_own),
    ("container_of_a_pod_that_shares_processes_has_its_own_pid_namespace",
    process::shared_processes),
    ("container_that_sees_the_nodes_processes_is_in_their_pid_namespace", process::host_pid),
    ("mounts_masks_sysctls_and_limits_as_kubernetes_sets_them_hold",
    process::as_kubernetes_sets_it),
    ("exec_joins_the_container_with_its_own_user_and_variables", process::exec_joins),
    ("exec_is_confined_as_its_container_is", process::exec_is_confined),
    ("selinux_label_that_cannot_be_set_is_refused_by_name", process::label_is_refused),
    ("fifty_execs_leave_nothing_behind", process::fifty_execs),
    ("output_of_a_program_arrives_and_its_input_is_its_own", streams::pipes),
    ("terminal_is_the_programs_controlling_terminal_and_its_console", streams::terminal),
    ("pipes_belong_to_the_containers_user", streams::owner),
    ("missing_program_fails_creation_by_name", faults::missing_program),
    ("program_that_the_kernel_refuses_exits_with_126_and_the_reason", faults::refused_program),
    ("exec_of_a_missing_or_refused_program_fails_at_its_start", faults::exec_faults),
    ("exec_needs_a_running_container", faults::exec_before_start),
    ("missing_state_folder_is_an_error_with_its_path", faults::missing_state),
    ("full_disk_fails_creation_at_any_file_and_leaves_nothing", faults::full_disk),
    ("killed_worker_leaves_nothing", faults::killed_worker),
    ("worker_that_is_killed_at_any_moment_of_a_creation_leaves_nothing",
    faults::worker_killed_at_any_moment),
    ("worker_that_is_killed_at_any_moment_of_an_exec_harms_nothing_else",
    faults::exec_worker_killed_at_any_moment),
    ("missing_root_fails_creation", faults::missing_root),
    ("failed_mount_is_an_error_with_its_path", faults::missing_volume),
    (
        "root_with_a_link_in_place_of_dev_proc_or_sys_is_refused_and_nothing_is_made_on_the_node",
        hostile::root_with_a_link_in_place_of_dev_proc_or_sys_is_refused_and_nothing_is_made_on_the_node,
    ),
    (
        "selinux_label_of_an_exec_is_never_written_to_a_file_of_the_container",
        hostile::selinux_label_of_an_exec_is_never_written_to_a_file_of_the_container,
    ),
    ("native_container_and_each_exec_have_keyrings_of_their_own",
    hostile::native_container_and_each_exec_have_keyrings_of_their_own),
    ("container_dies_with_its_host", hosts::dies_with_its_host),
    ("container_that_waits_for_its_start_dies_with_its_host", hosts::waiting_dies_with_its_host),
    ("forker_holds_nothing_of_its_host", hosts::forker_holds_nothing),
    ("host_without_descriptors_fails_creation_at_any_step_and_leaves_nothing",
    hosts::lack_of_descriptors),
    ("lost_forker_is_replaced_and_losing_both_harms_no_existing_container",
    hosts::lost_forker),
];

fn main() -> ExitCode {
    if let Some(code) = hosts::act() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Tests look at the children and descriptors of this process as a whole.
    arguments.test_threads = Some(1);
    let root = rustix::process::geteuid().is_root();
    // As of a host that listens already when it forks.
    let _held = std::fs::File::open("/dev/full").expect("every Linux has it");
    if root {
        bundle::start_forkers().expect("a process with one thread can fork");
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
