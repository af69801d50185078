//! The SELinux label of a program, set through the node's `/proc`.
//!
//! libcontainer (0.7) sets none. The container's own `/proc` must not be used: a container can
//! cover it with links to other files, to which the label would be written.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::ProgramFault;

/// The file below `/proc` for the label of the next program that this thread executes (proc(5)).
const EXEC_LABEL: &str = "thread-self/attr/exec";

/// The label that a process does not have yet.
#[derive(Debug, Default)]
pub(super) struct Labels(Option<Selinux>);

#[derive(Debug)]
struct Selinux {
    label: String,
    /// The node's `/proc`, in which a process in a pid namespace below finds itself too.
    proc: OwnedFd,
}

impl Labels {
    /// Opens the file system to write the label to. Runs outside of the container.
    pub(super) fn open(selinux: Option<&str>) -> Result<Self, String> {
        let selinux = selinux.filter(|label| !label.is_empty()).map(|label| {
            let proc = openat(
                CWD,
                "/proc",
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            );
            proc.map(|proc| Selinux {
                label: label.to_owned(),
                proc,
            })
            .map_err(|error| format!("cannot open /proc: {error}"))
        });
        Ok(Self(selinux.transpose()?))
    }

    /// Sets the label of the next program of this process, and closes the node's `/proc`. Runs in
    /// the container.
    pub(super) fn set(self) -> Result<(), ProgramFault> {
        let Some(Selinux { label, proc }) = self.0 else {
            return Ok(());
        };
        let file = openat(
            &proc,
            EXEC_LABEL,
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(io::Error::from);
        let written =
            file.and_then(|file| io::Write::write_all(&mut File::from(file), label.as_bytes()));
        written.map_err(|error| {
            ProgramFault::NotConfinable(format!(
                "cannot give the process the SELinux label {label:?}: {error}"
            ))
        })
    }
}
