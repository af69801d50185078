//! The process's namespaces, the names in them, their kernel parameters.

use std::os::fd::AsFd as _;

use rustix::fs::{Mode, OFlags};
use rustix::thread::move_into_link_name_space;

use super::messages::NamespaceFile;
use crate::error::{Failure, Step as _};
use crate::kernel;
use crate::plan::{Namespace, Plan, Sysctl};
use crate::procfs;
use crate::wire::WireFd;

/// Joins namespaces that exist.
pub(super) fn join(namespaces: Vec<NamespaceFile>) -> Result<(), Failure> {
    for NamespaceFile { name, file } in namespaces {
        move_into_link_name_space(file.as_fd(), None).step(|| format!("join the {name}"))?;
    }
    Ok(())
}

/// Configures the process's own namespaces by the plan.
pub(super) fn configure(plan: &Plan, proc: Option<&WireFd>) -> Result<(), Failure> {
    if plan.namespaces.net == Namespace::New {
        kernel::loopback_up().step(|| "switch the loopback interface on")?;
    }
    set_names(plan.hostname.as_deref(), plan.domainname.as_deref())?;
    set_sysctls(&plan.sysctls, proc)
}

/// Sets the names of the process's UTS namespace.
pub(super) fn set_names(hostname: Option<&str>, domainname: Option<&str>) -> Result<(), Failure> {
    if let Some(hostname) = hostname {
        rustix::system::sethostname(hostname.as_bytes())
            .step(|| format!("set the host name {hostname}"))?;
    }
    if let Some(domainname) = domainname {
        rustix::system::setdomainname(domainname.as_bytes())
            .step(|| format!("set the domain name {domainname}"))?;
    }
    Ok(())
}

/// Sets kernel parameters of the process's namespaces.
pub(super) fn set_sysctls(sysctls: &[Sysctl], proc: Option<&WireFd>) -> Result<(), Failure> {
    for Sysctl { file, value } in sysctls {
        write_proc(proc, &format!("sys/{}", file.display()), value)?;
    }
    Ok(())
}

/// Writes to a file of `/proc`.
pub(super) fn write_proc(proc: Option<&WireFd>, file: &str, value: &str) -> Result<(), Failure> {
    let step = || format!("write {value:?} to /proc/{file}");
    let proc = proc.ok_or_else(|| Failure::of(step(), "the host gave no view of /proc"))?;
    let file = rustix::fs::openat(proc, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .step(step)?;
    // A label that is written elsewhere has no effect, and the process would run without it.
    procfs::check(&file).step(step)?;
    match rustix::io::write(file, value.as_bytes()).step(step)? {
        written if written == value.len() => Ok(()),
        written => Err(Failure::of(
            step(),
            format!("the kernel took {written} of {} bytes", value.len()),
        )),
    }
}
