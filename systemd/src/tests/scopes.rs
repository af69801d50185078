//! Scopes of processes that systemd did not start.

use super::*;

const SCOPE: Scope<'_> = Scope {
    name: "a-b.scope",
    slice: "x.slice",
    description: "container b",
    process: 77,
};

#[test]
fn scope_exists_when_its_job_is_done() {
    let (mut systemd, server) = Server::that(|server| {
        let (serial, text) = server.call();
        for said in [
            "StartTransientUnit",
            "a-b.scope",
            "x.slice",
            "container b",
            "PIDs",
            "Delegate",
        ] {
            assert!(text.contains(said), "{said} in {text:?}");
        }
        server.send(&reply(serial, &(path("/job/7"),)).unwrap());
        server.send(&ended("/job/7", "done"));
    });
    systemd.start_scope(&SCOPE).unwrap();
    server.join().unwrap();
}

#[test]
fn error_of_a_failed_scope_has_its_state() {
    let (mut systemd, server) = Server::that(|server| {
        server.job("StartTransientUnit", "failed");
        let (serial, _) = server.call();
        server.send(&reply(serial, &(path("/unit"),)).unwrap());
        let (serial, _) = server.call();
        server.send(&reply(serial, &(Value::from("failed"),)).unwrap());
    });
    let failure = systemd.start_scope(&SCOPE).unwrap_err();
    assert_eq!(
        failure.to_string(),
        r#"the job of a-b.scope failed: the unit is failed (result "failed")"#
    );
    server.join().unwrap();
}

#[test]
fn absent_scope_counts_as_stopped() {
    let (mut systemd, server) = Server::that(|server| {
        let (serial, _) = server.call();
        server.send(&error(serial, "org.freedesktop.systemd1.NoSuchUnit", "gone").unwrap());
    });
    systemd.stop_scope(SCOPE.name, SOON).unwrap();
    server.join().unwrap();
}

#[test]
fn limits_are_set_until_the_next_boot() {
    let (mut systemd, server) = Server::that(|server| {
        let (serial, text) = server.call();
        for said in ["SetUnitProperties", "sba(sv)", "MemoryMax", "AllowedCPUs"] {
            assert!(text.contains(said), "{said} in {text:?}");
        }
        server.send(&reply(serial, &()).unwrap());
    });
    systemd
        .set_limits(
            SCOPE.name,
            &[
                Limit::Number("MemoryMax", 1 << 20),
                Limit::Set("AllowedCPUs", vec![0b11]),
            ],
        )
        .unwrap();
    server.join().unwrap();
}
