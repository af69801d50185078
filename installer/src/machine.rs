//! The services of a node: units, programs, and containerd's API. A trait, so that tests run all
//! other code in a folder, with every failure that a node can have.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::Result;
use installer_protocol::{Artifact, CgroupDriver};
use systemd_client::Unit;

use crate::containers::RunningWorkloads;
use crate::cri::CriStatus;
use crate::fetch::{Archive, FetchError};
use crate::kernel::Kernel;
use crate::node_root::NodePath;

/// The services of a node.
pub trait Machine {
    /// Returns the state of a systemd unit.
    ///
    /// # Errors
    /// If systemd does not answer.
    fn unit(&self, name: &str) -> Result<Unit>;

    /// Runs a program of the node to its end.
    ///
    /// # Errors
    /// If it cannot be started or does not end in time. An exit code other than 0 is not an error.
    fn run(&self, program: &NodePath, arguments: &[&str]) -> io::Result<Output>;

    /// Restarts a unit and waits until it is active.
    ///
    /// # Errors
    /// If it does not become active.
    fn restart(&self, unit: &str) -> Result<()>;

    /// Waits until containerd at `socket` is ready and returns its status.
    ///
    /// # Errors
    /// If it is not ready within `timeout`; the error has its last answer.
    fn served(&self, socket: &NodePath, timeout: Duration) -> Result<CriStatus>;

    /// Returns what runs on the node, from the containerd at `socket`.
    ///
    /// # Errors
    /// If it does not answer.
    fn running(&self, socket: &NodePath) -> Result<RunningWorkloads>;

    /// Returns the features of the node's kernel.
    ///
    /// # Errors
    /// If they cannot be read.
    fn kernel(&self) -> io::Result<Kernel>;

    /// Runs the smoke guest.
    ///
    /// # Errors
    /// If it did not run to the expected end.
    fn smoke(&self, trial: &Trial<'_>) -> Result<()>;

    /// Fetches an archive and verifies its digest; a download is written into `folder`.
    ///
    /// # Errors
    /// If it cannot be fetched, or has another digest.
    fn fetch(&self, artifact: &Artifact, folder: &Path) -> Result<Archive, FetchError>;

    /// Returns the path of this program, which is static and so also runs on the node.
    ///
    /// # Errors
    /// If the path is not known.
    fn own_program(&self) -> io::Result<PathBuf>;

    /// Starts a program of the node as a unit of its own, which systemd stops after `timeout`.
    ///
    /// # Errors
    /// If systemd does not start it.
    fn start(
        &self,
        unit: &str,
        description: &str,
        command: &[String],
        timeout: Duration,
    ) -> Result<()>;

    /// Returns microseconds since 1970, by the clock of systemd's timestamps.
    fn now(&self) -> u64;

    /// Returns a monotonic time.
    fn elapsed(&self) -> Duration;

    /// Sleeps between two polls.
    fn pause(&self, time: Duration);

    /// Notes a lasting change of the node before it is made. A process can be killed at any of
    /// these points, and the next one has to continue from there.
    fn about_to(&self, change: &str);
}

/// Maximum time until containerd is ready after a start: it first loads all its containers.
pub const READY_TIMEOUT: Duration = Duration::from_mins(1);

/// The expected state of a handler in containerd after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedHandler<'a> {
    /// containerd serves this handler.
    Served(&'a str),
    /// containerd does not know this handler.
    Gone(&'a str),
}

impl<'a> ExpectedHandler<'a> {
    /// Returns the handler's name.
    pub fn handler(self) -> &'a str {
        match self {
            Self::Served(handler) | Self::Gone(handler) => handler,
        }
    }
}

/// A smoke test.
#[derive(Debug, Clone)]
pub struct Trial<'a> {
    /// Name of the runtime.
    pub runtime: &'a str,
    /// The handler under test.
    pub handler: &'a str,
    /// The image that contains the guest.
    pub image: &'a str,
    /// The cgroup driver of the handler.
    pub driver: CgroupDriver,
    /// containerd's socket.
    pub socket: &'a NodePath,
    /// A folder for the guest's log.
    pub logs: &'a NodePath,
}
