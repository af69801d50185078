//! The client of systemd, against a server that answers, refuses, is late, or goes away.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::{self, JoinHandle};

use proptest::prelude::*;
use zvariant::{ObjectPath, Value};

use super::bus::Deadline;
use super::message::server::{error, reply, signal};
use super::message::{Kind, decode, length};
use super::*;

mod scopes;

const SOON: Duration = Duration::from_secs(5);
const AT_ONCE: Duration = Duration::from_millis(50);

/// systemd's end of a connection.
struct Server {
    stream: UnixStream,
    pending: Vec<u8>,
}

impl Server {
    /// A server that does this after the authentication, and what is connected to it.
    fn that(acts: impl FnOnce(&mut Self) + Send + 'static) -> (Systemd, JoinHandle<()>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = thread::spawn(move || {
            let mut server = Self {
                stream: theirs,
                pending: Vec::new(),
            };
            server.authenticate(b"OK 0123456789abcdef\r\n");
            acts(&mut server);
        });
        (
            Systemd {
                bus: Bus::over(ours).unwrap(),
            },
            server,
        )
    }

    fn authenticate(&mut self, answer: &[u8]) {
        let expected = b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n";
        let mut said = vec![0; expected.len()];
        self.stream.read_exact(&mut said).unwrap();
        assert_eq!(said, expected);
        self.stream.write_all(answer).unwrap();
    }

    /// Waits for the next call; its serial number, its whole text for looking into.
    fn call(&mut self) -> (u32, String) {
        loop {
            if let Some(length) = length(&self.pending)
                .unwrap()
                .filter(|length| *length <= self.pending.len())
            {
                let rest = self.pending.split_off(length);
                let bytes = std::mem::replace(&mut self.pending, rest);
                let serial = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
                return (serial, String::from_utf8_lossy(&bytes).into_owned());
            }
            let mut part = [0; 512];
            let count = self.stream.read(&mut part).unwrap();
            assert_ne!(count, 0, "the client went away");
            self.pending.extend_from_slice(&part[..count]);
        }
    }

    fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Answers the next calls as those of a whole look at a unit.
    fn describe(&mut self, active: &str, since: u64, pid: u32, result: &str) {
        for _ in 0..9 {
            let (serial, text) = self.call();
            let value = |value: Value<'_>| reply(serial, &(value,)).unwrap();
            let answers = [
                ("LoadUnit", reply(serial, &(path("/unit"),)).unwrap()),
                ("LoadState", value(Value::from("loaded"))),
                ("ActiveState", value(Value::from(active))),
                ("ActiveEnterTimestamp", value(Value::from(since))),
                ("MainPID", value(Value::from(pid))),
                ("Result", value(Value::from(result))),
                // Before the shorter name, which it contains.
                (
                    "EnvironmentFiles",
                    value(Value::from(vec![("/etc/default/x", true)])),
                ),
                ("Environment", value(Value::from(vec!["A=1", "B=x y"]))),
                (
                    "ExecStart",
                    value(Value::from(vec![(
                        "/bin/x",
                        vec!["/bin/x", "--y"],
                        false,
                        1_u64,
                        2_u64,
                        3_u32,
                    )])),
                ),
            ];
            let (_, answer) = answers
                .iter()
                .find(|(name, _)| text.contains(name))
                .expect("a call of a look at a unit");
            self.say(answer);
        }
    }

    /// Answers the next call with a job, and says that it ended so.
    fn job(&mut self, method: &str, result: &str) {
        let (serial, text) = self.call();
        assert!(text.contains(method), "{text:?}");
        // Jobs of others end before and after.
        self.say(&ended("/job/1", "failed"));
        self.say(&reply(serial, &(path("/job/7"),)).unwrap());
        self.say(&signal("UnitNew", &("x.service", path("/unit"))).unwrap());
        self.say(&ended("/job/6", "failed"));
        self.say(&ended("/job/7", result));
    }
}

fn path(text: &str) -> ObjectPath<'_> {
    ObjectPath::try_from(text).unwrap()
}

fn ended(job: &str, result: &str) -> Vec<u8> {
    signal("JobRemoved", &(7_u32, path(job), "x.service", result)).unwrap()
}

#[test]
fn a_unit_is_described_by_its_properties() {
    let (mut systemd, server) = Server::that(|server| server.describe("active", 12, 34, "success"));
    let expected = Unit {
        name: "x.service".to_owned(),
        load: LoadState::Loaded,
        active: ActiveState::Active,
        active_since: 12,
        main_pid: 34,
        program: Some("/bin/x".to_owned()),
        arguments: vec!["/bin/x".to_owned(), "--y".to_owned()],
        environment: vec!["A=1".to_owned(), "B=x y".to_owned()],
        environment_files: vec!["/etc/default/x".to_owned()],
        result: "success".to_owned(),
    };
    assert_eq!(systemd.unit("x.service").unwrap(), expected);
    server.join().unwrap();
}

#[test]
fn a_restart_is_done_when_another_process_is_active() {
    let (mut systemd, server) = Server::that(|server| {
        server.describe("active", 1, 2, "success");
        server.job("RestartUnit", "done");
        server.describe("active", 3, 4, "success");
    });
    assert_eq!(systemd.restart("x.service", SOON).unwrap().main_pid, 4);
    server.join().unwrap();
}

#[test]
fn a_restart_that_fails_is_told_at_once_although_systemd_tries_again() {
    let (mut systemd, server) = Server::that(|server| {
        server.describe("active", 1, 2, "success");
        server.job("RestartUnit", "failed");
        server.describe("activating", 1, 0, "exit-code");
    });
    let failure = systemd.restart("x.service", SOON).unwrap_err();
    assert_eq!(
        failure.to_string(),
        r#"x.service did not do what it was asked: it is activating (result "exit-code")"#
    );
    server.join().unwrap();
}

#[test]
fn a_restart_that_left_the_same_process_is_none() {
    let (mut systemd, server) = Server::that(|server| {
        server.describe("active", 1, 2, "success");
        server.job("RestartUnit", "canceled");
        server.describe("active", 1, 2, "success");
    });
    let failure = systemd.restart("x.service", SOON).unwrap_err();
    assert!(
        matches!(&failure, SystemdError::Failed { result, .. } if result == "canceled"),
        "{failure:?}"
    );
    server.join().unwrap();
}

#[test]
fn a_restart_that_takes_too_long_says_what_the_unit_is_doing() {
    let (mut systemd, server) = Server::that(|server| {
        server.describe("active", 1, 2, "success");
        let (serial, _) = server.call();
        server.say(&reply(serial, &(path("/job/7"),)).unwrap());
        server.describe("deactivating", 1, 2, "success");
    });
    let failure = systemd.restart("x.service", AT_ONCE).unwrap_err();
    assert!(
        matches!(
            failure,
            SystemdError::Unsettled {
                state: ActiveState::Deactivating,
                ..
            }
        ),
        "{failure:?}"
    );
    server.join().unwrap();
}

#[test]
fn a_process_of_ours_is_started_with_its_whole_command() {
    let (mut systemd, server) = Server::that(|server| {
        let (serial, text) = server.call();
        for part in [
            "guard.service",
            "/opt/guard",
            "--back",
            "RuntimeMaxUSec",
            "inactive-or-failed",
        ] {
            assert!(text.contains(part), "{part} in {text:?}");
        }
        server.say(&reply(serial, &(path("/job/7"),)).unwrap());
        server.say(&ended("/job/7", "done"));
    });
    let command = ["/opt/guard", "--back"].map(str::to_owned);
    systemd
        .start_transient("guard.service", "Puts it back", &command, SOON)
        .unwrap();
    server.join().unwrap();
}

#[test]
fn a_name_that_is_taken_is_told_apart() {
    let (mut systemd, server) = Server::that(|server| {
        let (serial, _) = server.call();
        server.say(
            &error(
                serial,
                "org.freedesktop.systemd1.UnitExists",
                "was already loaded",
            )
            .unwrap(),
        );
    });
    let failure = systemd
        .start_transient("guard.service", "x", &["/x".to_owned()], SOON)
        .unwrap_err();
    assert!(failure.is_exists(), "{failure:?}");
    server.join().unwrap();
}

#[test]
fn answers_to_other_calls_and_signals_are_passed_over() {
    let (mut systemd, server) = Server::that(|server| {
        let (serial, _) = server.call();
        server.say(&signal("Reloading", &(true,)).unwrap());
        server.say(&reply(serial + 40, &("another",)).unwrap());
        server.say(&error(serial + 41, "org.example.Another", "another").unwrap());
        server.say(&reply(serial, &()).unwrap());
    });
    systemd.set_limits("x.scope", &[]).unwrap();
    server.join().unwrap();
}

#[test]
fn an_error_is_told_with_its_name_and_its_text() {
    let (mut systemd, server) = Server::that(|server| {
        let (serial, _) = server.call();
        server.say(&error(serial, "org.freedesktop.DBus.Error.AccessDenied", "no").unwrap());
    });
    assert_eq!(
        systemd.set_limits("x.scope", &[]).unwrap_err().to_string(),
        "SetUnitProperties: org.freedesktop.DBus.Error.AccessDenied: no"
    );
    server.join().unwrap();
}

#[test]
fn an_answer_in_pieces_is_put_together() {
    let (mut systemd, server) = Server::that(|server| {
        let (serial, _) = server.call();
        for byte in reply(serial, &()).unwrap() {
            server.say(&[byte]);
        }
    });
    systemd.set_limits("x.scope", &[]).unwrap();
    server.join().unwrap();
}

#[test]
fn an_answer_that_comes_too_late_is_not_taken_for_the_next_ones() {
    let (mut systemd, server) = Server::that(|server| {
        let (first, _) = server.call();
        let late = reply(first, &("late",)).unwrap();
        // The deadline passes in the middle of it.
        let (half, rest) = late.split_at(late.len() / 2);
        server.say(half);
        let (second, _) = server.call();
        server.say(rest);
        server.say(&reply(second, &("right",)).unwrap());
    });
    let ask = |systemd: &mut Systemd, limit| systemd.bus.call_within(limit, manager("Reload"), &());
    let failure = ask(&mut systemd, AT_ONCE).unwrap_err();
    assert!(
        matches!(failure, SystemdError::TimedOut { .. }),
        "{failure:?}"
    );
    assert_eq!(
        ask(&mut systemd, SOON)
            .unwrap()
            .read::<(String,)>()
            .unwrap()
            .0,
        "right"
    );
    server.join().unwrap();
}

#[test]
fn a_connection_that_ends_in_a_message_is_broken() {
    let (mut systemd, server) = Server::that(|server| {
        let (serial, _) = server.call();
        let answer = reply(serial, &()).unwrap();
        server.say(&answer[..answer.len() - 1]);
    });
    let failure = systemd.set_limits("x.scope", &[]).unwrap_err();
    assert!(
        matches!(failure, SystemdError::Broken { .. }),
        "{failure:?}"
    );
    server.join().unwrap();
}

#[test]
fn who_is_not_root_is_refused() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = thread::spawn(move || {
        Server {
            stream: theirs,
            pending: Vec::new(),
        }
        .authenticate(b"REJECTED EXTERNAL\r\n");
    });
    let failure = Bus::over(ours).unwrap_err();
    assert!(
        matches!(&failure, SystemdError::Refused { answer } if answer == "REJECTED EXTERNAL"),
        "{failure:?}"
    );
    server.join().unwrap();
}

#[test]
fn a_host_without_systemd_is_told_by_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let failure = Systemd::connect(&folder.path().join("private")).unwrap_err();
    assert!(
        matches!(failure, SystemdError::Connect { .. }),
        "{failure:?}"
    );
    let socket = folder.path().join("dead");
    drop(UnixListener::bind(&socket).unwrap());
    assert!(matches!(
        Systemd::connect(&socket).unwrap_err(),
        SystemdError::Connect { .. }
    ));
}

#[test]
fn a_job_that_ended_before_its_own_call_was_answered_counts() {
    let (mut systemd, server) = Server::that(|server| {
        let (serial, _) = server.call();
        server.say(&ended("/job/7", "done"));
        server.say(&reply(serial, &(path("/job/7"),)).unwrap());
    });
    let result = systemd
        .bus
        .job(
            manager("RestartUnit"),
            &("x.service", REPLACE),
            Deadline::within(SOON),
        )
        .unwrap();
    assert_eq!(result, "done");
    server.join().unwrap();
}

#[test]
fn a_message_that_is_too_long_to_hold_is_refused() {
    let mut bytes = reply(1, &()).unwrap();
    bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    length(&bytes).unwrap_err();
}

#[test]
fn a_message_of_the_other_byte_order_is_read() {
    // As a machine with big-endian numbers sends it: an answer to call 5 that says 7.
    let mut bytes = vec![b'B', 2, 0, 1, 0, 0, 0, 4, 0, 0, 0, 9, 0, 0, 0, 15];
    bytes.extend([5, 1, b'u', 0, 0, 0, 0, 5]);
    bytes.extend([8, 1, b'g', 0, 1, b'u', 0, 0]);
    bytes.extend([0, 0, 0, 7]);
    assert_eq!(length(&bytes).unwrap(), Some(bytes.len()));
    let message = decode(&bytes).unwrap();
    assert_eq!(message.kind, Kind::Reply(5));
    assert_eq!(message.body.read::<(u32,)>().unwrap(), (7,));
}

proptest! {
    #[test]
    fn what_is_written_is_read(serial in any::<u32>(), text in "[^\\x00]{0,200}",
        numbers in proptest::collection::vec(any::<u64>(), 0..20)) {
        let bytes = reply(serial, &(text.as_str(), &numbers, true)).unwrap();
        prop_assert_eq!(length(&bytes).unwrap(), Some(bytes.len()));
        let message = decode(&bytes).unwrap();
        prop_assert_eq!(message.kind, Kind::Reply(serial));
        prop_assert_eq!(message.body.read::<(String, Vec<u64>, bool)>().unwrap(), (text, numbers,
            true));
    }

    #[test]
    fn a_name_of_any_length_leaves_the_rest_of_a_message_in_its_place(name in "[a-z]{1,40}",
        text in "[^\\x00]{0,40}") {
        let message = decode(&error(3, &name, &text).unwrap()).unwrap();
        prop_assert_eq!(message.kind, Kind::Error(3, name));
        prop_assert_eq!(message.body.text(), text);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        at in 0_usize..60, byte in any::<u8>()) {
        let _ = length(&bytes).map(drop);
        let _ = decode(&bytes).map(drop);
        bytes = reply(1, &("text", 7_u64)).unwrap();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = length(&bytes).map(drop);
        let _ = decode(&bytes).map(|message| message.body.read::<(String, u64)>().map(drop));
    }
}
