//! Units of the host, through systemd's private socket.

use std::path::Path;
use std::time::Duration;

mod error;
mod unit;

pub use error::SystemdError;
pub use unit::{ActiveState, LoadState, Unit};

/// A connection to the host's systemd.
#[derive(Debug)]
pub struct Systemd;

impl Systemd {
    /// Connects to systemd's private socket, `/run/systemd/private` below the host's root, as uid 0.
    pub fn connect(_socket: &Path) -> Result<Self, SystemdError> {
        unimplemented!()
    }

    /// The state of `name`, which is loaded first. A unit that there is none of has [`LoadState::NotFound`].
    pub fn unit(&mut self, _name: &str) -> Result<Unit, SystemdError> {
        unimplemented!()
    }

    /// The first of these units that is active.
    pub fn first_active(&mut self, _names: &[String]) -> Result<Option<Unit>, SystemdError> {
        unimplemented!()
    }

    /// Has systemd read its unit files again.
    pub fn reload(&mut self) -> Result<(), SystemdError> {
        unimplemented!()
    }

    /// Restarts `name` and waits until another process of it is active.
    pub fn restart(&mut self, _name: &str, _limit: Duration) -> Result<Unit, SystemdError> {
        unimplemented!()
    }

    /// Starts `command` as a unit `name` (`x.service`) that lies in no file and is forgotten when it ends. systemd kills
    /// it after `limit`. The program is the host's, with the host's paths.
    pub fn start_transient(&mut self, _name: &str, _description: &str, _command: &[String], _limit: Duration) -> Result<(), SystemdError> {
        unimplemented!()
    }

    /// Stops `name` and waits until it is inactive. One that is not there is stopped already.
    pub fn stop(&mut self, _name: &str, _limit: Duration) -> Result<(), SystemdError> {
        unimplemented!()
    }
}
