//! A connection to systemd's private socket: authentication, calls, and jobs.
//!
//! The socket is not a bus: systemd itself is the peer, so there is no `Hello` and there are no bus
//! names. `systemctl` uses it as root. It also exists without a D-Bus daemon, as on kind's nodes.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::Serialize;
use zvariant::{OwnedObjectPath, Type};

use super::error::SystemdError;
use super::message::{self, Body, Kind, Malformed, Message, Method};

/// Maximum time of one reply. systemd replies from memory, but a reload of all units takes longer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// The argument of the mechanism is the user's number in decimal digits, each as a hexadecimal
/// byte: root's.
const AUTHENTICATION: &[u8] = b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n";
/// Maximum length of a line of the authentication.
const MAX_LINE_LENGTH: usize = 512;
/// The signal at a job's end, with number, path, unit and result. systemd sends it on each private
/// connection without a subscription.
const JOB_REMOVED: &str = "JobRemoved";

/// An authenticated connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    /// Received bytes that are not a complete message yet: a deadline may pass within one.
    pending: Vec<u8>,
    serial: u32,
    /// Jobs that ended since the last one was started, and their results.
    ended: Vec<(String, String)>,
}

/// The deadline of an operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    limit: Duration,
    at: Instant,
}

impl Deadline {
    pub(super) fn within(limit: Duration) -> Self {
        Self {
            limit,
            at: Instant::now() + limit,
        }
    }

    pub(super) fn limit(self) -> Duration {
        self.limit
    }
}

impl Bus {
    /// Authenticates as root on a new connection.
    pub(super) fn over(stream: UnixStream) -> Result<Self, SystemdError> {
        let mut bus = Self {
            stream,
            pending: Vec::new(),
            serial: 0,
            ended: Vec::new(),
        };
        let deadline = Deadline::within(REPLY_TIMEOUT);
        // Sent at once: if `BEGIN` and the first call reach systemd in one read, it waits for
        // another read before it handles the call (seen with 252: no reply as long as nothing else
        // was sent). Its reply to the first line shows that it has received the last one too.
        bus.write(AUTHENTICATION, "authenticate", deadline)?;
        let answer = bus.line(deadline)?;
        if !answer.starts_with("OK ") {
            return Err(SystemdError::Refused { answer });
        }
        Ok(bus)
    }

    /// Calls `method` and waits for its reply.
    pub(super) fn call<A: Serialize + Type>(
        &mut self,
        method: Method<'_>,
        arguments: &A,
    ) -> Result<Body, SystemdError> {
        self.call_within(REPLY_TIMEOUT, method, arguments)
    }

    /// Calls `method` and waits for its reply for at most `limit`.
    pub(super) fn call_within<A: Serialize + Type>(
        &mut self,
        limit: Duration,
        method: Method<'_>,
        arguments: &A,
    ) -> Result<Body, SystemdError> {
        let what = method.name;
        self.serial += 1;
        let serial = self.serial;
        let deadline = Deadline::within(limit);
        let bytes = message::call(serial, method, arguments)
            .map_err(|problem| malformed(what, &problem))?;
        self.write(&bytes, what, deadline)?;
        loop {
            let Message { kind, body } = self.message(what, deadline)?;
            match kind {
                Kind::Reply(to) if to == serial => return Ok(body),
                Kind::Error(to, name) if to == serial => {
                    return Err(SystemdError::Answer {
                        what: what.to_owned(),
                        name,
                        message: body.text(),
                    });
                }
                // A reply to a call that timed out.
                Kind::Reply(_) | Kind::Error(..) | Kind::Other => {}
                Kind::Signal(name) => self.record_job_end(&name, &body),
            }
        }
    }

    /// Calls `method`, which starts a job, and waits for its end. Returns the job's result, `done`
    /// on success.
    pub(super) fn job<A: Serialize + Type>(
        &mut self,
        method: Method<'_>,
        arguments: &A,
        deadline: Deadline,
    ) -> Result<String, SystemdError> {
        self.ended.clear();
        let body = self.call(method, arguments)?;
        let (job,): (OwnedObjectPath,) = body
            .read()
            .map_err(|problem| malformed(method.name, &problem))?;
        loop {
            if let Some((_, result)) = self.ended.iter().find(|(path, _)| path == job.as_str()) {
                return Ok(result.clone());
            }
            let Message { kind, body } = self.message(method.name, deadline)?;
            if let Kind::Signal(name) = kind {
                self.record_job_end(&name, &body);
            }
        }
    }

    /// Records a job's end if the signal reports one.
    fn record_job_end(&mut self, signal: &str, body: &Body) {
        if signal == JOB_REMOVED
            && let Ok((_, path, _, result)) = body.read::<(u32, OwnedObjectPath, String, String)>()
        {
            self.ended.push((path.as_str().to_owned(), result));
        }
    }

    fn write(&mut self, bytes: &[u8], what: &str, deadline: Deadline) -> Result<(), SystemdError> {
        let written = self
            .stream
            .set_write_timeout(Some(remaining(what, deadline)?))
            .and_then(|()| self.stream.write_all(bytes));
        written.map_err(|source| broken(what, source, deadline))
    }

    /// Returns the next message of any kind.
    fn message(&mut self, what: &str, deadline: Deadline) -> Result<Message, SystemdError> {
        loop {
            let length =
                message::length(&self.pending).map_err(|problem| malformed(what, &problem))?;
            if let Some(length) = length.filter(|length| *length <= self.pending.len()) {
                let rest = self.pending.split_off(length);
                let bytes = std::mem::replace(&mut self.pending, rest);
                return message::decode(&bytes).map_err(|problem| malformed(what, &problem));
            }
            self.fill(what, deadline)?;
        }
    }

    /// Returns the next line of the authentication.
    fn line(&mut self, deadline: Deadline) -> Result<String, SystemdError> {
        let what = "authenticate";
        loop {
            if let Some(end) = self.pending.windows(2).position(|two| two == b"\r\n") {
                let rest = self.pending.split_off(end + 2);
                let line = std::mem::replace(&mut self.pending, rest);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.pending.len() > MAX_LINE_LENGTH {
                return Err(SystemdError::Malformed {
                    what: what.to_owned(),
                    problem: "a line without an end".to_owned(),
                });
            }
            self.fill(what, deadline)?;
        }
    }

    /// Reads available bytes, or waits for some until the deadline.
    fn fill(&mut self, what: &str, deadline: Deadline) -> Result<(), SystemdError> {
        let mut part = [0; 4096];
        let read = self
            .stream
            .set_read_timeout(Some(remaining(what, deadline)?))
            .and_then(|()| self.stream.read(&mut part));
        match read {
            Ok(0) => Err(broken(what, io::ErrorKind::UnexpectedEof.into(), deadline)),
            Ok(count) => {
                self.pending.extend_from_slice(&part[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(broken(what, error, deadline)),
        }
    }
}

/// Returns the remaining time, never zero: a socket timeout of zero means none.
fn remaining(what: &str, deadline: Deadline) -> Result<Duration, SystemdError> {
    let left = deadline.at.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(SystemdError::TimedOut {
            what: what.to_owned(),
            limit: deadline.limit,
        });
    }
    Ok(left.max(Duration::from_millis(1)))
}

fn broken(what: &str, source: io::Error, deadline: Deadline) -> SystemdError {
    match source.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => SystemdError::TimedOut {
            what: what.to_owned(),
            limit: deadline.limit,
        },
        _ => SystemdError::Broken {
            what: what.to_owned(),
            source,
        },
    }
}

pub(super) fn malformed(what: &str, problem: &Malformed) -> SystemdError {
    SystemdError::Malformed {
        what: what.to_owned(),
        problem: problem.to_string(),
    }
}
