//! Fields that are refused as soon as they say anything.

use oci_spec::runtime::{
    Hook, Linux, LinuxMemoryPolicy, LinuxPersonalityDomain, MemoryPolicyModeType, Process, Spec,
};

use super::Refused;

/// Refuses `field` when it `says` something.
fn nothing(field: &str, says: bool, reason: &str) -> Result<(), Refused> {
    if says {
        Err(Refused::new(field, reason))
    } else {
        Ok(())
    }
}

/// Whatever of the spec as a whole is not served.
pub(super) fn of_spec(spec: &Spec) -> Result<(), Refused> {
    let other = "for another platform: this runtime makes Linux containers";
    nothing("solaris", spec.solaris().is_some(), other)?;
    nothing("windows", spec.windows().is_some(), other)?;
    nothing("vm", spec.vm().is_some(), other)?;
    nothing("zos", spec.zos().is_some(), other)?;
    hooks(spec)?;
    spec.linux().as_ref().map_or(Ok(()), of_linux)
}

fn hooks(spec: &Spec) -> Result<(), Refused> {
    let Some(hooks) = spec.hooks() else {
        return Ok(());
    };
    for (name, hooks) in [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ] {
        if let Some(hook) = hooks.iter().flatten().next() {
            return Err(hook_refused(name, hook));
        }
    }
    Ok(())
}

fn hook_refused(name: &str, hook: &Hook) -> Refused {
    Refused::new(
        format!("hooks.{name}"),
        format!(
            "{}: programs of the node are not run for a guest; what they set up is for a Linux \
             program",
            hook.path().display()
        ),
    )
}

fn of_linux(linux: &Linux) -> Result<(), Refused> {
    let has = |list: Option<usize>| list.is_some_and(|len| len > 0);
    nothing(
        "linux.timeOffsets",
        has(linux
            .time_offsets()
            .as_ref()
            .map(std::collections::HashMap::len)),
        "time namespaces are not served: a guest has the node's clocks",
    )?;
    nothing(
        "linux.netDevices",
        has(linux
            .net_devices()
            .as_ref()
            .map(std::collections::HashMap::len)),
        "interfaces of the node are not moved into a container; a CNI plugin can do that for the \
         pod",
    )?;
    nothing(
        "linux.intelRdt",
        linux.intel_rdt().is_some(),
        "classes of cache and memory bandwidth are not set",
    )?;
    let policy = |policy: &LinuxMemoryPolicy| policy.mode() != MemoryPolicyModeType::MpolDefault;
    nothing(
        "linux.memoryPolicy",
        linux.memory_policy().as_ref().is_some_and(policy),
        "NUMA policies are not set; `linux.resources.cpu.mems` binds a container to nodes of \
         memory",
    )?;
    let personality = linux.personality().as_ref();
    nothing(
        "linux.personality.domain",
        personality
            .is_some_and(|personality| personality.domain() != LinuxPersonalityDomain::PerLinux),
        "only LINUX is served: the engine is a program of the machine's own kind",
    )?;
    nothing(
        "linux.personality.flags",
        personality.is_some_and(|personality| has(personality.flags().as_ref().map(Vec::len))),
        "not served, nor does the spec define any",
    )
}

/// Whatever of a process is not served.
pub(super) fn of_process(process: &Process) -> Result<(), Refused> {
    let windows = "for Windows";
    nothing(
        "process.commandLine",
        process.command_line().is_some(),
        windows,
    )?;
    nothing(
        "process.user.username",
        process.user().username().is_some(),
        windows,
    )?;
    nothing(
        "process.ioPriority",
        process.io_priority().is_some(),
        "priorities of input and output are not set",
    )?;
    nothing(
        "process.scheduler",
        process.scheduler().is_some(),
        "scheduling policies are not set; `linux.resources.cpu` holds",
    )?;
    let affinity = process.exec_cpu_affinity().as_ref();
    let names = affinity.is_some_and(|affinity| {
        affinity.initial().is_some() || affinity.cpu_affinity_final().is_some()
    });
    nothing(
        "process.execCPUAffinity",
        names,
        "not set; `linux.resources.cpu.cpus` holds for `exec` too",
    )
}
