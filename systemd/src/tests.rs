//! The client against a fake server that replies, refuses, is late, or disconnects.

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

/// The server's end of a connection.
struct Server {
    stream: UnixStream,
    pending: Vec<u8>,
}

impl Server {
    /// Starts a server with this behaviour after the authentication, and a connected client.
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

    /// Waits for the next call; returns its serial number and its text.
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

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Replies to the calls that read a unit's properties.
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
                // Before its prefix.
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
            self.send(answer);
        }
    }

    /// Replies to the next call with a job, and signals its end with this result.
    fn job(&mut self, method: &str, result: &str) {
        let (serial, text) = self.call();
        assert!(text.contains(method), "{text:?}");
        // Other jobs end before and after.
        self.send(&ended("/job/1", "failed"));
        self.send(&reply(serial, &(path("/job/7"),)).unwrap());
        self.send(&signal("UnitNew", &("x.service", path("/unit"))).unwrap());
        self.send(&ended("/job/6", "failed"));
        self.send(&ended("/job/7", result));
    }
}

fn path(text: &str) -> ObjectPath<'_> {
    ObjectPath::try_from(text).unwrap()
}

fn ended(job: &str, result: &str) -> Vec<u8> {
    signal("JobRemoved", &(7_u32, path(job), "x.service", result)).unwrap()
}

#[test]
fn unit_is_read_from_its_properties() {
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
fn restart_is_done_when_another_process_is_active() {
    let (mut systemd, server) = Server::that(|server| {
        server.describe("active", 1, 2, "success");
        server.job("RestartUnit", "done");
        server.describe("active", 3, 4, "success");
    });
    assert_eq!(systemd.restart("x.service", SOON).unwrap().main_pid, 4);
    server.join().unwrap();
}

#[test]
fn failed_restart_is_returned_at_once_although_systemd_retries() {
    let (mut systemd, server) = Server::that(|server| {
        server.describe("active", 1, 2, "success");
        server.job("RestartUnit", "failed");
        server.describe("activating", 1, 0, "exit-code");
    });
    let failure = systemd.restart("x.service", SOON).unwrap_err();
    assert_eq!(
        failure.to_string(),
        r#"the job of x.service failed: the unit is activating (result "exit-code")"#
    );
    server.join().unwrap();
}

#[test]
fn restart_with_the_same_process_is_an_error() {
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
fn timed_out_restart_has_the_units_state() {
    let (mut systemd, server) = Server::that(|server| {
        server.describe("active", 1, 2, "success");
        let (serial, _) = server.call();
        server.send(&reply(serial, &(path("/job/7"),)).unwrap());
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
fn transient_service_has_the_whole_command() {
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
        server.send(&reply(serial, &(path("/job/7"),)).unwrap());
        server.send(&ended("/job/7", "done"));
    });
    let command = ["/opt/guard", "--back"].map(str::to_owned);
    systemd
        .start_transient("guard.service", "Puts it back", &command, SOON)
        .unwrap();
    server.join().unwrap();
}

#[test]
fn unit_exists_is_distinguished_from_other_errors() {
    let (mut systemd, server) = Server::that(|server| {
        let (serial, _) = server.call();
        server.send(
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
fn replies_to_other_calls_and_signals_are_skipped() {
    let (mut systemd, server) = Server::that(|server| {
        let (serial, _) = server.call();
        server.send(&signal("Reloading", &(true,)).unwrap());
        server.send(&reply(serial + 40, &("another",)).unwrap());
        server.send(&error(serial + 41, "org.example.Another", "another").unwrap());
        server.send(&reply(serial, &()).unwrap());
    });
    systemd.set_limits("x.scope", &[]).unwrap();
    server.join().unwrap();
}

#[test]
fn error_reply_has_its_name_and_text() {
    let (mut systemd, server) = Server::that(|server| {
        let (serial, _) = server.call();
        server.send(&error(serial, "org.freedesktop.DBus.Error.AccessDenied", "no").unwrap());
    });
    assert_eq!(
        systemd.set_limits("x.scope", &[]).unwrap_err().to_string(),
        "SetUnitProperties: org.freedesktop.DBus.Error.AccessDenied: no"
    );
    server.join().unwrap();
}

#[test]
fn reply_in_parts_is_assembled() {
    let (mut systemd, server) = Server::that(|server| {
        let (serial, _) = server.call();
        for byte in reply(serial, &()).unwrap() {
            server.send(&[byte]);
        }
    });
    systemd.set_limits("x.scope", &[]).unwrap();
    server.join().unwrap();
}

#[test]
fn late_reply_is_not_taken_for_the_next_one() {
    let (mut systemd, server) = Server::that(|server| {
        let (first, _) = server.call();
        let late = reply(first, &("late",)).unwrap();
        // The deadline passes within it.
        let (half, rest) = late.split_at(late.len() / 2);
        server.send(half);
        let (second, _) = server.call();
        server.send(rest);
        server.send(&reply(second, &("right",)).unwrap());
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
fn connection_that_ends_within_a_message_is_broken() {
    let (mut systemd, server) = Server::that(|server| {
        let (serial, _) = server.call();
        let answer = reply(serial, &()).unwrap();
        server.send(&answer[..answer.len() - 1]);
    });
    let failure = systemd.set_limits("x.scope", &[]).unwrap_err();
    assert!(
        matches!(failure, SystemdError::Broken { .. }),
        "{failure:?}"
    );
    server.join().unwrap();
}

#[test]
fn user_other_than_root_is_refused() {
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
fn absent_socket_is_a_connect_error() {
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
fn job_that_ended_before_its_reply_counts() {
    let (mut systemd, server) = Server::that(|server| {
        let (serial, _) = server.call();
        server.send(&ended("/job/7", "done"));
        server.send(&reply(serial, &(path("/job/7"),)).unwrap());
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
fn message_over_the_size_limit_is_refused() {
    let mut bytes = reply(1, &()).unwrap();
    bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    length(&bytes).unwrap_err();
}

#[test]
fn big_endian_message_is_decoded() {
    // A big-endian reply to call 5 with the value 7.
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
    fn message_is_decoded_as_it_was_encoded(serial in any::<u32>(), text in "[^\\x00]{0,200}",
        numbers in proptest::collection::vec(any::<u64>(), 0..20)) {
        let bytes = reply(serial, &(text.as_str(), &numbers, true)).unwrap();
        prop_assert_eq!(length(&bytes).unwrap(), Some(bytes.len()));
        let message = decode(&bytes).unwrap();
        prop_assert_eq!(message.kind, Kind::Reply(serial));
        prop_assert_eq!(message.body.read::<(String, Vec<u64>, bool)>().unwrap(), (text, numbers,
            true));
    }

    #[test]
    fn name_of_any_length_keeps_the_alignment_of_a_message(name in "[a-z]{1,40}",
        text in "[^\\x00]{0,40}") {
        let message = decode(&error(3, &name, &text).unwrap()).unwrap();
        prop_assert_eq!(message.kind, Kind::Error(3, name));
        prop_assert_eq!(message.body.text(), text);
    }

    #[test]
    fn decoder_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
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
