//! `start` leads to exactly one host whatever happens to launchers and hosts.

use std::collections::HashSet;
use std::fs;
use std::process::Child;

use runtime_options::{Grouping, LogLevel};
use shim_protocol::host::HostArguments;

use crate::bundle::{Bundle, eventually, socket};
use crate::killed::{Fate, INPUT, kill_before};

#[test]
fn concurrent_launchers_make_one_host() {
    let bundle = Bundle::unpack();
    let started: Vec<Child> = (0..16)
        .map(|id| bundle.command(&format!("c{id}")).spawn().unwrap())
        .collect();
    let sockets: HashSet<_> = started
        .into_iter()
        .map(|child| socket(&child.wait_with_output().unwrap()))
        .collect();
    assert_eq!(sockets.len(), 1);
    bundle.wait_for_one_host("of sixteen launchers");
}

#[test]
fn host_gets_its_arguments_and_a_minimal_environment() {
    let bundle = Bundle::unpack();
    let mut command = bundle.command("c1");
    let socket = socket(
        &command
            .env("TTRPC_ADDRESS", "/t.sock")
            .env("SECRET", "x")
            .env("LD_PRELOAD", "")
            .output()
            .unwrap(),
    );
    let report = bundle.report_of_host();
    assert_eq!(report[0], "/", "its working directory");
    let variables: Vec<&str> = report
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    assert!(
        variables.contains(&"TTRPC_ADDRESS")
            && !variables.contains(&"SECRET")
            && !variables.contains(&"LD_PRELOAD"),
        "{report:?}"
    );
    let from = report.iter().position(|line| line == "-namespace").unwrap();
    let arguments =
        HostArguments::parse(report[from..report.len() - 2].iter().map(Into::into)).unwrap();
    assert_eq!(
        (
            arguments.namespace.as_str(),
            arguments.address.as_str(),
            arguments.id.as_str()
        ),
        ("test", "/c.sock", "c1")
    );
    assert_eq!(
        (arguments.grouping, arguments.log_level),
        (Grouping::Node, LogLevel::Info)
    );
    assert_eq!(arguments.socket, socket);
    assert_eq!(report[report.len() - 2], "/dev/null");
    assert!(
        report[report.len() - 1].starts_with("socket:"),
        "{report:?}"
    );
    assert_eq!(
        fs::read_to_string(bundle.path("container/address")).unwrap(),
        format!("unix://{}", socket.display())
    );
}

#[test]
fn dead_host_is_replaced_and_leaves_no_file() {
    let bundle = Bundle::unpack();
    let first = bundle.start("c1");
    assert_eq!(bundle.start("c2"), first);
    bundle.kill_hosts();
    let second = bundle.start("c3");
    assert_ne!(first, second);
    bundle.wait_for_one_host("in files of the dead one");
    assert_eq!(
        bundle.files_of_sockets().len(),
        3,
        "a lock, a pointer, a socket"
    );
}

#[test]
fn each_bundle_has_its_own_host() {
    let (old, new) = (Bundle::unpack(), Bundle::unpack());
    // Both on one node: in one folder of sockets.
    let mut command = new.command("c2");
    let input = old.input("c2");
    let sockets = [
        old.start("c1"),
        socket(
            &command
                .stdin(fs::File::open(input).unwrap())
                .output()
                .unwrap(),
        ),
    ];
    assert_ne!(sockets[0], sockets[1]);
    old.wait_for_one_host("of the old bundle");
    new.wait_for_one_host("of the new bundle");
}

#[test]
fn bundle_without_a_spec_is_a_sandbox() {
    let bundle = Bundle::unpack();
    fs::remove_file(bundle.path("container/config.json")).unwrap();
    bundle.start("s1");
    bundle.wait_for_one_host("of the sandbox");
}

#[test]
fn damaged_or_missing_loader_leaves_no_socket() {
    let bundle = Bundle::unpack();
    fs::write(bundle.loader(), "\u{7f}damaged").unwrap();
    let output = bundle.command("c1").output().unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("the host did not start"), "{error}");
    assert_eq!(bundle.files_of_sockets(), Vec::<String>::new());
    fs::remove_file(bundle.loader()).unwrap();
    let output = bundle.command("c1").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("incomplete"));
    assert_eq!(bundle.files_of_sockets().len(), 1, "the lock");
}

#[test]
fn host_that_exits_at_once_is_reported_and_leaves_no_file() {
    let bundle = Bundle::unpack();
    fs::write(
        bundle.script(),
        "#!/bin/sh\necho 'libwasmedge.so.0: cannot open shared object file' >&2\nexit 127\n",
    )
    .unwrap();
    let output = bundle.command("c1").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success()
            && error.contains("the host did not start: libwasmedge.so.0: cannot open"),
        "{error}"
    );
    assert_eq!(bundle.files_of_sockets(), Vec::<String>::new());
}

#[test]
fn bad_options_are_reported_before_a_host_is_started() {
    let bundle = Bundle::unpack();
    let input = bundle.path("old-input");
    fs::write(
        &input,
        b"\n\x19runtimeoptions.v1.Options\x12\x0c\x1a\x0aColour = 1",
    )
    .unwrap();
    let output = bundle
        .command("c1")
        .stdin(fs::File::open(input).unwrap())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("Colour") && error.contains("grouping"),
        "{error}"
    );
    assert_eq!(bundle.hosts().len(), 0);
}

#[test]
fn launcher_killed_at_any_step_leaves_at_most_one_host() {
    let mut call = 0;
    loop {
        let bundle = Bundle::unpack();
        let mut command = bundle.command("c1");
        if kill_before(call, command.env(INPUT, bundle.input("c1"))) == Fate::Ended {
            break;
        }
        let found = bundle.start("c2");
        // A fork of the killed launcher may be left that is about to become a host.
        eventually("the launcher's fork becomes a host", || {
            bundle.launchers().is_empty().then_some(())
        });
        bundle.wait_for_one_host(&format!(
            "after a launcher that was killed before its system call {call}"
        ));
        assert_eq!(
            bundle.start("c3"),
            found,
            "killed before its system call {call}"
        );
        assert_eq!(
            bundle.files_of_sockets().len(),
            3,
            "killed before its system call {call}"
        );
        call += 1;
    }
    assert!(
        call > 50,
        "it made {call} system calls only, so it was not followed"
    );
}
