//! Fields that are refused if they have a value.

use oci_spec::runtime::{
    Hook, Linux, LinuxMemoryPolicy, LinuxPersonalityDomain, MemoryPolicyModeType, Process, Spec,
};

use super::Refused;

/// Refuses `field` if it is used.
fn refuse_if(field: &str, is_used: bool, reason: &str) -> Result<(), Refused> {
    if is_used {
        Err(Refused::new(field, reason))
    } else {
        Ok(())
    }
}

/// Refuses fields of the whole spec that are not supported.
pub(super) fn of_spec(spec: &Spec) -> Result<(), Refused> {
    let other = "for another platform: this runtime makes Linux containers";
    refuse_if("solaris", spec.solaris().is_some(), other)?;
    refuse_if("windows", spec.windows().is_some(), other)?;
    refuse_if("vm", spec.vm().is_some(), other)?;
    refuse_if("zos", spec.zos().is_some(), other)?;
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
            "{}: hooks are not run for a guest; they set up things for Linux programs",
            hook.path().display()
        ),
    )
}

fn of_linux(linux: &Linux) -> Result<(), Refused> {
    let has = |list: Option<usize>| list.is_some_and(|len| len > 0);
    refuse_if(
        "linux.timeOffsets",
        has(linux
            .time_offsets()
            .as_ref()
            .map(std::collections::HashMap::len)),
        "time namespaces are not supported: a guest has the node's clocks",
    )?;
    refuse_if(
        "linux.netDevices",
        has(linux
            .net_devices()
            .as_ref()
            .map(std::collections::HashMap::len)),
        "network devices of the node are not moved into a container; a CNI plugin can do that for \
         the pod",
    )?;
    refuse_if(
        "linux.intelRdt",
        linux.intel_rdt().is_some(),
        "cache and memory bandwidth classes are not set",
    )?;
    let policy = |policy: &LinuxMemoryPolicy| policy.mode() != MemoryPolicyModeType::MpolDefault;
    refuse_if(
        "linux.memoryPolicy",
        linux.memory_policy().as_ref().is_some_and(policy),
        "NUMA policies are not set; `linux.resources.cpu.mems` binds a container to nodes of \
         memory",
    )?;
    let personality = linux.personality().as_ref();
    refuse_if(
        "linux.personality.domain",
        personality
            .is_some_and(|personality| personality.domain() != LinuxPersonalityDomain::PerLinux),
        "only LINUX is supported: the engine is a program of the machine's own architecture",
    )?;
    refuse_if(
        "linux.personality.flags",
        personality.is_some_and(|personality| has(personality.flags().as_ref().map(Vec::len))),
        "not supported, and the spec defines none",
    )
}

/// Refuses fields of a process that are not supported.
pub(super) fn of_process(process: &Process) -> Result<(), Refused> {
    let windows = "for Windows";
    refuse_if(
        "process.commandLine",
        process.command_line().is_some(),
        windows,
    )?;
    refuse_if(
        "process.user.username",
        process.user().username().is_some(),
        windows,
    )?;
    refuse_if(
        "process.ioPriority",
        process.io_priority().is_some(),
        "I/O priorities are not set",
    )?;
    refuse_if(
        "process.scheduler",
        process.scheduler().is_some(),
        "scheduling policies are not set; use `linux.resources.cpu`",
    )?;
    let affinity = process.exec_cpu_affinity().as_ref();
    let names = affinity.is_some_and(|affinity| {
        affinity.initial().is_some() || affinity.cpu_affinity_final().is_some()
    });
    refuse_if(
        "process.execCPUAffinity",
        names,
        "not set; `linux.resources.cpu.cpus` applies to `exec` too",
    )
}
