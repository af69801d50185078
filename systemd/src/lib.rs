//! Units of the machine, through systemd's private socket: what state they are in, restarts,
//! processes of the installer that outlive its container, and the scopes that hold containers.
//!
//! Blocking, one call after another. The client is our own on top of zvariant's marshalling. zbus
//! 6.2 was tried on systemd 252: it connects, but takes systemd's answers, which come from no valid
//! bus name, for errors. It would also bring an executor of its own and has no deadline for an
//! answer; what is needed here are six methods. libcgroups has a client too, whose connections are
//! never closed.
#![forbid(unsafe_code)]

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use zvariant::OwnedObjectPath;

mod bus;
mod error;
mod message;
mod scope;
mod transient;
mod unit;

use bus::{Bus, Deadline, malformed};
pub use error::SystemdError;
use message::{Body, Method};
pub use scope::{Limit, Scope};
pub use unit::{ActiveState, LoadState, Unit};

/// What systemd's own object is called; its methods are described in org.freedesktop.systemd1(5).
const MANAGER: &str = "/org/freedesktop/systemd1";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
/// How a job replaces one of the same unit that is waiting.
const REPLACE: &str = "replace";
/// A process of ours is started at once, but for other jobs that systemd has to do.
const START: Duration = Duration::from_mins(1);

/// A connection to the host's systemd.
#[derive(Debug)]
pub struct Systemd {
    bus: Bus,
}

impl Systemd {
    /// Connects to systemd's private socket, `/run/systemd/private` below the host's root, as uid
    /// 0.
    pub fn connect(socket: &Path) -> Result<Self, SystemdError> {
        let stream = UnixStream::connect(socket).map_err(|source| SystemdError::Connect {
            socket: socket.to_owned(),
            source,
        })?;
        Ok(Self {
            bus: Bus::over(stream)?,
        })
    }

    /// The state of `name`, a service, which is loaded first. A unit that there is none of has
    /// [`LoadState::NotFound`].
    pub fn unit(&mut self, name: &str) -> Result<Unit, SystemdError> {
        let body = self.bus.call(manager("LoadUnit"), &(name,))?;
        let (path,): (OwnedObjectPath,) = body
            .read()
            .map_err(|problem| malformed("LoadUnit", &problem))?;
        let (program, arguments) = self
            .property(&path, SERVICE, "ExecStart", unit::first_command)?
            .unwrap_or_default();
        Ok(Unit {
            name: name.to_owned(),
            load: LoadState::named(&self.property(&path, UNIT, "LoadState", unit::text)?),
            active: ActiveState::named(&self.property(&path, UNIT, "ActiveState", unit::text)?),
            active_since: self.property(&path, UNIT, "ActiveEnterTimestamp", unit::microseconds)?,
            main_pid: self.property(&path, SERVICE, "MainPID", unit::pid)?,
            program: Some(program).filter(|program| !program.is_empty()),
            arguments,
            environment: self.property(&path, SERVICE, "Environment", unit::texts)?,
            environment_files: self.property(&path, SERVICE, "EnvironmentFiles", unit::paths)?,
            result: self.property(&path, SERVICE, "Result", unit::text)?,
        })
    }

    /// Restarts `name` and waits until another process of it is active. A start that fails is an
    /// error at once, also where systemd will try again: containerd's unit says `Restart=always`,
    /// and who waited for that would wait for ever.
    pub fn restart(&mut self, name: &str, limit: Duration) -> Result<Unit, SystemdError> {
        let before = self.unit(name)?;
        let result = self.settle(name, manager("RestartUnit"), Deadline::within(limit))?;
        let after = self.unit(name)?;
        if result == unit::DONE && unit::is_another_run(&before, &after) {
            Ok(after)
        } else {
            Err(failed(after, result))
        }
    }

    /// Starts `command` as the service `name` (`x.service`), which lies in no file and is forgotten
    /// when it ends, however it ends. systemd kills it after `limit`. The program is the host's,
    /// with the host's paths, and must exist. [`SystemdError::is_exists`] tells that there is a
    /// unit of that name already.
    pub fn start_transient(
        &mut self,
        name: &str,
        description: &str,
        command: &[String],
        limit: Duration,
    ) -> Result<(), SystemdError> {
        let properties = transient::properties(description, command, limit)?;
        let arguments = (name, "fail", properties, transient::NO_OTHER_UNITS);
        let result = self.bus.job(
            manager("StartTransientUnit"),
            &arguments,
            Deadline::within(START),
        )?;
        if result == unit::DONE {
            Ok(())
        } else {
            Err(failed(self.unit(name)?, result))
        }
    }

    /// Makes the scope and puts its process in, which must be running. It is forgotten when its
    /// last process ends.
    pub fn start_scope(&mut self, scope: &Scope<'_>) -> Result<(), SystemdError> {
        let arguments = (
            scope.name,
            "fail",
            scope.properties(),
            transient::NO_OTHER_UNITS,
        );
        let result = self.bus.job(
            manager("StartTransientUnit"),
            &arguments,
            Deadline::within(START),
        )?;
        if result == unit::DONE {
            Ok(())
        } else {
            Err(self.scope_failed(scope.name, result)?)
        }
    }

    /// Stops a scope, ending what is still in it, and waits until it is gone. One that is not there
    /// is stopped already.
    pub fn stop_scope(&mut self, name: &str, limit: Duration) -> Result<(), SystemdError> {
        match self.bus.job(
            manager("StopUnit"),
            &(name, REPLACE),
            Deadline::within(limit),
        ) {
            Ok(result) if result == unit::DONE => Ok(()),
            Ok(result) => Err(self.scope_failed(name, result)?),
            Err(error) if error.is_named("org.freedesktop.systemd1.NoSuchUnit") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// That a job did not do with a scope what it should.
    fn scope_failed(&mut self, name: &str, result: String) -> Result<SystemdError, SystemdError> {
        let body = self.bus.call(manager("LoadUnit"), &(name,))?;
        let (path,): (OwnedObjectPath,) = body
            .read()
            .map_err(|problem| malformed("LoadUnit", &problem))?;
        let state = ActiveState::named(&self.property(&path, UNIT, "ActiveState", unit::text)?);
        Ok(SystemdError::Failed {
            unit: name.to_owned(),
            state,
            result,
        })
    }

    /// Changes limits of a unit until the machine is booted again. systemd writes them soon after
    /// it has answered, and again whenever it reads its unit files again.
    pub fn set_limits(&mut self, unit: &str, limits: &[Limit]) -> Result<(), SystemdError> {
        const UNTIL_BOOT: bool = true;
        let properties: transient::Properties = limits.iter().map(Limit::property).collect();
        self.bus
            .call(
                manager("SetUnitProperties"),
                &(unit, UNTIL_BOOT, properties),
            )
            .map(drop)
    }

    /// Has systemd make a job of `name` and waits for its end.
    fn settle(
        &mut self,
        name: &str,
        method: Method<'_>,
        deadline: Deadline,
    ) -> Result<String, SystemdError> {
        match self.bus.job(method, &(name, REPLACE), deadline) {
            Err(SystemdError::TimedOut { .. }) => {
                let Unit { active: state, .. } = self.unit(name)?;
                Err(SystemdError::Unsettled {
                    unit: name.to_owned(),
                    state,
                    limit: deadline.limit(),
                })
            }
            ended => ended,
        }
    }

    fn property<T>(
        &mut self,
        path: &OwnedObjectPath,
        interface: &'static str,
        name: &str,
        read: fn(&Body) -> Result<T, message::Malformed>,
    ) -> Result<T, SystemdError> {
        let get = Method {
            object: path.as_str(),
            interface: "org.freedesktop.DBus.Properties",
            name: "Get",
        };
        let body = self.bus.call(get, &(interface, name))?;
        read(&body).map_err(|problem| malformed(&format!("{name} of {}", path.as_str()), &problem))
    }
}

fn manager(name: &'static str) -> Method<'static> {
    Method {
        object: MANAGER,
        interface: "org.freedesktop.systemd1.Manager",
        name,
    }
}

/// That a job did not do what it should, with the more telling of the two results.
fn failed(unit: Unit, job: String) -> SystemdError {
    let Unit {
        name,
        active: state,
        result,
        ..
    } = unit;
    let result = if result.is_empty() || result == unit::SUCCESS {
        job
    } else {
        result
    };
    SystemdError::Failed {
        unit: name,
        state,
        result,
    }
}

#[cfg(test)]
mod tests;
