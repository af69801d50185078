//! The process that holds a pod's namespaces in place of a thread, if one of them is a user
//! namespace.

use std::path::Path;

use container_cgroup::Cgroup;
use guest_sandbox::plan::{Namespace, Namespaces, Sysctl};
use guest_sandbox::{Guest, NewHolder, Zygote};
use rustix::process::{Signal, pidfd_send_signal};

use crate::error::PodError;
use crate::new_pod::{Ipc, Network, NewPod, Users, Uts};

/// Forks the process, and waits until it holds everything.
pub(crate) fn hold(new: NewPod, zygote: &Zygote, cgroup: &Cgroup) -> Result<Guest, PodError> {
    let NewPod {
        id,
        name: _,
        users,
        oom_score_adj,
        network,
        ipc,
        uts,
        sysctls,
    } = new;
    let Users::Join(users) = users else {
        return Err(PodError::NewUserNamespace);
    };
    let namespaces = Namespaces {
        net: match network {
            Network::Join(path) => Namespace::Join(path),
            Network::Own => Namespace::New,
            Network::Node => Namespace::Node,
        },
        ipc: if ipc == Ipc::Own {
            Namespace::New
        } else {
            Namespace::Node
        },
        uts: if uts == Uts::Node {
            Namespace::Node
        } else {
            Namespace::New
        },
        cgroup: Namespace::Node,
    };
    let (hostname, domainname) = match uts {
        Uts::Own {
            hostname,
            domainname,
        } => (hostname, domainname),
        Uts::Node => (None, None),
    };
    let below_sys = |file: &Path| file.strip_prefix("/proc/sys").unwrap_or(file).to_owned();
    let sysctls = sysctls
        .into_iter()
        .map(|sysctl| Sysctl {
            file: below_sys(&sysctl.file),
            value: sysctl.value,
        })
        .collect();
    let join_method = cgroup.join_method()?;
    let new = NewHolder {
        name: id,
        users,
        namespaces,
        hostname,
        domainname,
        sysctls,
        oom_score_adj,
        join_method,
    };
    let process = guest_sandbox::hold(zygote, new, |pid| {
        cgroup.join_scope(pid).map_err(|error| error.to_string())
    })?;
    process.start()?;
    Ok(process)
}

/// Kills the process.
pub(crate) fn end(process: &Guest) {
    // It may have exited before.
    let _ = pidfd_send_signal(process.pidfd(), Signal::KILL);
}
