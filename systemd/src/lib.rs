//! A client of systemd's private socket: states and restarts of units, services for processes that
//! outlive the installer's container, and the scopes of containers.
//!
//! Calls are blocking and sequential. The client is our own, on zvariant's marshalling. zbus 6.2
//! was tried on systemd 252: it connects, but rejects systemd's answers, because their sender is
//! not a valid bus name. It also needs an executor and has no deadline for an answer, and only six
//! methods are needed. libcgroups has a client too, which never closes its connections.
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

/// The object of systemd's manager; org.freedesktop.systemd1(5) describes its methods.
const MANAGER: &str = "/org/freedesktop/systemd1";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
/// A job replaces a waiting one of the same unit.
const REPLACE: &str = "replace";
/// Maximum time to start a transient unit: systemd may have other jobs first.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// A connection to systemd.
#[derive(Debug)]
pub struct Systemd {
    bus: Bus,
}

impl Systemd {
    /// Connects to systemd's private socket, `/run/systemd/private` below the node's root, as uid
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

    /// Loads the service `name` and returns its state. An unknown unit has [`LoadState::NotFound`].
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
            load: LoadState::parse(&self.property(&path, UNIT, "LoadState", unit::text)?),
            active: ActiveState::parse(&self.property(&path, UNIT, "ActiveState", unit::text)?),
            active_since: self.property(&path, UNIT, "ActiveEnterTimestamp", unit::microseconds)?,
            main_pid: self.property(&path, SERVICE, "MainPID", unit::pid)?,
            program: Some(program).filter(|program| !program.is_empty()),
            arguments,
            environment: self.property(&path, SERVICE, "Environment", unit::texts)?,
            environment_files: self.property(&path, SERVICE, "EnvironmentFiles", unit::paths)?,
            result: self.property(&path, SERVICE, "Result", unit::text)?,
        })
    }

    /// Restarts `name` and waits until it is active with another process. A failed start is an
    /// error at once, even if systemd will retry: containerd's unit has `Restart=always`, so a wait
    /// for the last retry would not end.
    pub fn restart(&mut self, name: &str, timeout: Duration) -> Result<Unit, SystemdError> {
        let before = self.unit(name)?;
        let result = self.run_job(name, manager("RestartUnit"), Deadline::within(timeout))?;
        let after = self.unit(name)?;
        if result == unit::DONE && unit::is_another_run(&before, &after) {
            Ok(after)
        } else {
            Err(failed(after, result))
        }
    }

    /// Starts `command` as the transient service `name` (`x.service`), which is removed when it
    /// ends, even if it failed. systemd kills it after `timeout`. The program and its paths are the
    /// node's, and the program must exist. [`SystemdError::is_exists`] reports that a unit of that
    /// name exists.
    pub fn start_transient(
        &mut self,
        name: &str,
        description: &str,
        command: &[String],
        timeout: Duration,
    ) -> Result<(), SystemdError> {
        let properties = transient::properties(description, command, timeout)?;
        let arguments = (name, "fail", properties, transient::NO_OTHER_UNITS);
        let result = self.bus.job(
            manager("StartTransientUnit"),
            &arguments,
            Deadline::within(START_TIMEOUT),
        )?;
        if result == unit::DONE {
            Ok(())
        } else {
            Err(failed(self.unit(name)?, result))
        }
    }

    /// Creates the scope for its process, which must be running. The scope is removed when its last
    /// process ends.
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
            Deadline::within(START_TIMEOUT),
        )?;
        if result == unit::DONE {
            Ok(())
        } else {
            Err(self.scope_failed(scope.name, result)?)
        }
    }

    /// Stops a scope with its processes and waits until it is gone. An absent scope counts as
    /// stopped.
    pub fn stop_scope(&mut self, name: &str, timeout: Duration) -> Result<(), SystemdError> {
        match self.bus.job(
            manager("StopUnit"),
            &(name, REPLACE),
            Deadline::within(timeout),
        ) {
            Ok(result) if result == unit::DONE => Ok(()),
            Ok(result) => Err(self.scope_failed(name, result)?),
            Err(error) if error.is_named("org.freedesktop.systemd1.NoSuchUnit") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Returns the error of a job that failed on a scope.
    fn scope_failed(&mut self, name: &str, result: String) -> Result<SystemdError, SystemdError> {
        let body = self.bus.call(manager("LoadUnit"), &(name,))?;
        let (path,): (OwnedObjectPath,) = body
            .read()
            .map_err(|problem| malformed("LoadUnit", &problem))?;
        let state = ActiveState::parse(&self.property(&path, UNIT, "ActiveState", unit::text)?);
        Ok(SystemdError::Failed {
            unit: name.to_owned(),
            state,
            result,
        })
    }

    /// Changes limits of a unit until the next boot. systemd applies them soon after its answer,
    /// and again at each reload of its unit files.
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

    /// Runs a job of `name` and waits for its end.
    fn run_job(
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

/// Returns the error of a failed job, with the unit's result if it is more specific.
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
