//! Confinement of a process of exec, as that of its container.
//!
//! libcontainer (0.7) loads no system call filter for such a process. Without no_new_privs only a
//! process with CAP_SYS_ADMIN may load one, which libcontainer has dropped before this code runs.
//! So libcontainer gets that capability, and the one to drop capabilities, in the process's sets,
//! and both are dropped right after the filter is loaded.

use failures::chain;
use libcontainer::capabilities::drop_privileges;
use libcontainer::seccomp::{initialize_seccomp, is_notify};
use libcontainer::syscall::syscall::create_syscall;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxSeccomp, Process, Spec};

use crate::error::ProgramFault;

/// The part of the confinement that is applied right before the program is executed.
#[derive(Debug, Clone)]
pub(super) struct Confinement {
    filter: LinuxSeccomp,
    /// The capabilities that stay once the filter is loaded; none if the others are dropped
    /// already.
    capabilities: Option<LinuxCapabilities>,
}

/// Returns the process as libcontainer gets it, and the rest of its confinement.
pub(super) fn of_exec(spec: &Spec, mut process: Process) -> (Process, Option<Confinement>) {
    process.set_terminal(None).set_console_size(None);
    let capabilities = process.capabilities().as_ref().map(complete);
    process.set_capabilities(capabilities.clone());
    let Some(filter) = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().clone())
    else {
        return (process, None);
    };
    let may_load = process.no_new_privileges() == Some(true);
    let capabilities = capabilities.filter(|_| !may_load);
    if let Some(dropped_to) = &capabilities {
        process.set_capabilities(Some(with_filter_capabilities(dropped_to)));
    }
    (
        process,
        Some(Confinement {
            filter,
            capabilities,
        }),
    )
}

/// Makes missing sets empty, as runc does; libcontainer would leave them unchanged.
fn complete(sets: &LinuxCapabilities) -> LinuxCapabilities {
    let mut whole = sets.clone();
    whole
        .set_bounding(Some(sets.bounding().clone().unwrap_or_default()))
        .set_permitted(Some(sets.permitted().clone().unwrap_or_default()))
        .set_effective(Some(sets.effective().clone().unwrap_or_default()))
        .set_inheritable(Some(sets.inheritable().clone().unwrap_or_default()))
        .set_ambient(Some(sets.ambient().clone().unwrap_or_default()));
    whole
}

/// Adds the two capabilities that loading a filter, and dropping capabilities again, need.
fn with_filter_capabilities(capabilities: &LinuxCapabilities) -> LinuxCapabilities {
    let more = |set: &Option<Capabilities>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend([Capability::SysAdmin, Capability::Setpcap]);
        Some(set)
    };
    let mut extended = capabilities.clone();
    extended
        .set_bounding(more(capabilities.bounding()))
        .set_permitted(more(capabilities.permitted()))
        .set_effective(more(capabilities.effective()));
    extended
}

impl Confinement {
    /// Confines this process. Runs in the container, right before the program is executed.
    pub(super) fn apply(&self) -> Result<(), ProgramFault> {
        let refuse = |reason: String| {
            ProgramFault::NotConfinable(format!(
                "cannot confine the process as its container is: {reason}"
            ))
        };
        if is_notify(&self.filter) {
            return Err(refuse(
                "its filter asks another program (SCMP_ACT_NOTIFY), which is served for a \
                 container's first process only"
                    .to_owned(),
            ));
        }
        initialize_seccomp(&self.filter).map_err(|error| refuse(chain(&error)))?;
        if let Some(capabilities) = &self.capabilities {
            drop_privileges(capabilities, create_syscall().as_ref())
                .map_err(|error| refuse(chain(&error)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILTERED: &str =
        r#"{"ociVersion": "1.1.0", "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}}"#;
    const FREE: &str = r#"{"ociVersion": "1.1.0", "linux": {}}"#;

    fn of(spec: &str, process: &str) -> (Process, Option<Confinement>) {
        let process = format!(r#"{{"cwd": "/", "user": {{"uid": 0, "gid": 0}}, {process}}}"#);
        of_exec(
            &serde_json::from_str(spec).unwrap(),
            serde_json::from_str(&process).unwrap(),
        )
    }

    fn effective(process: &Process) -> Capabilities {
        process
            .capabilities()
            .as_ref()
            .unwrap()
            .effective()
            .clone()
            .unwrap()
    }

    #[test]
    fn process_that_may_gain_privileges_keeps_the_capabilities_for_loading_the_filter() {
        let (process, confinement) = of(FILTERED, r#""capabilities": {"effective": ["CAP_KILL"]}"#);
        assert!(effective(&process).contains(&Capability::SysAdmin));
        assert!(effective(&process).contains(&Capability::Setpcap));
        let after = confinement.unwrap().capabilities.unwrap();
        assert_eq!(
            after.effective().clone().unwrap(),
            Capabilities::from([Capability::Kill])
        );
        assert_eq!(after.permitted().clone().unwrap(), Capabilities::new());
    }

    #[test]
    fn process_that_may_not_gain_privileges_needs_no_capability_to_load_the_filter() {
        let (process, confinement) = of(
            FILTERED,
            r#""noNewPrivileges": true, "capabilities": {"effective": ["CAP_KILL"]}"#,
        );
        assert_eq!(effective(&process), Capabilities::from([Capability::Kill]));
        assert!(confinement.unwrap().capabilities.is_none());
    }

    #[test]
    fn exec_in_a_container_without_a_filter_has_no_further_confinement() {
        let (process, confinement) = of(
            FREE,
            r#""terminal": true, "capabilities": {"bounding": ["CAP_KILL"]}"#,
        );
        assert!(confinement.is_none());
        assert_eq!(effective(&process), Capabilities::new());
        assert_eq!(process.terminal(), None);
    }
}
