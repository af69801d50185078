//! What the stages ask of a node besides its files: units, programs, containerd's answers. A trait,
//! so that everything above it runs in a folder of a test, with every failure that a node can have.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::Result;
use installer_protocol::{Artifact, CgroupDriver};
use systemd_client::Unit;

use crate::cri::Served;
use crate::detect::{Kernel, Running};
use crate::fetch::{Archive, FetchError};
use crate::host::HostPath;

/// A node's services.
pub trait Machine {
    /// A unit of systemd, as it is now.
    ///
    /// # Errors
    /// When systemd does not say.
    fn unit(&self, name: &str) -> Result<Unit>;

    /// Runs a program of the host to its end.
    ///
    /// # Errors
    /// When it cannot be started, or does not end in time; that it ends badly is an answer.
    fn run(&self, program: &HostPath, arguments: &[&str]) -> io::Result<Output>;

    /// Restarts a unit and waits until it is active.
    ///
    /// # Errors
    /// When it does not become active.
    fn restart(&self, unit: &str) -> Result<()>;

    /// What containerd serves at `socket`, as soon as it is ready.
    ///
    /// # Errors
    /// When it is not ready after `limit`; the error says what it last answered.
    fn served(&self, socket: &HostPath, limit: Duration) -> Result<Served>;

    /// What runs on the node, as the containerd at `socket` answers.
    ///
    /// # Errors
    /// When it does not answer.
    fn running(&self, socket: &HostPath) -> Result<Running>;

    /// The node's kernel.
    ///
    /// # Errors
    /// When it does not show what it is.
    fn kernel(&self) -> io::Result<Kernel>;

    /// Runs the smoke guest.
    ///
    /// # Errors
    /// When it did not run, or not as it should.
    fn smoke(&self, trial: &Trial<'_>) -> Result<()>;

    /// Gets an archive and proves its digest; a downloaded one is put into `folder`.
    ///
    /// # Errors
    /// When it cannot be had, or is another one.
    fn fetch(&self, artifact: &Artifact, folder: &Path) -> Result<Archive, FetchError>;

    /// This program's own file: one that needs nothing else, so that it also runs on the host.
    ///
    /// # Errors
    /// When it is not known.
    fn own_program(&self) -> io::Result<PathBuf>;

    /// Starts a program of the host as a unit of its own, which systemd ends after `limit`.
    ///
    /// # Errors
    /// When systemd does not start it.
    fn start(
        &self,
        unit: &str,
        description: &str,
        command: &[String],
        limit: Duration,
    ) -> Result<()>;

    /// Microseconds since 1970, as the clock says that systemd dates its units by.
    fn now(&self) -> u64;

    /// Time since some moment: never less than before, whatever is done to the node's clock.
    fn elapsed(&self) -> Duration;

    /// Lets time pass between two looks at something.
    fn pause(&self, time: Duration);

    /// Is told before each lasting change of the node what it is. A process can be killed at any of
    /// these points, and another one has to go on from there.
    fn about_to(&self, change: &str);
}

/// A smoke test.
#[derive(Debug, Clone)]
pub struct Trial<'a> {
    /// Name of the runtime.
    pub runtime: &'a str,
    /// The handler that is tried.
    pub handler: &'a str,
    /// The image that holds the guest.
    pub image: &'a str,
    /// Who sets up the handler's cgroups.
    pub driver: CgroupDriver,
    /// containerd's socket.
    pub socket: &'a HostPath,
    /// A folder for the guest's log.
    pub logs: &'a HostPath,
}
