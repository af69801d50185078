//! Capabilities that a process keeps.

use oci_spec::runtime::{Capability, LinuxCapabilities};
use rustix::thread::CapabilitySet as Bits;
use serde::{Deserialize, Serialize};

use super::WorkloadKind;

/// Sets of capabilities, one bit for each: `1 << CAP_*` (linux/capability.h).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySets {
    /// The maximum for every program of the process.
    pub bounding: u64,
    /// The capabilities in effect.
    pub effective: u64,
    /// The capabilities that the process may make effective.
    pub permitted: u64,
    /// The capabilities that an executed program may inherit.
    pub inheritable: u64,
    /// The capabilities that an executed program inherits.
    pub ambient: u64,
}

/// Capabilities that a guest can use: to open and change files of other owners, and to listen on
/// ports below 1024. WASI has no call for anything else that a capability allows.
const GUEST_CAPABILITIES: Bits = Bits::DAC_OVERRIDE
    .union(Bits::DAC_READ_SEARCH)
    .union(Bits::FOWNER)
    .union(Bits::NET_BIND_SERVICE);

impl CapabilitySets {
    /// Returns the sets of a process of user `uid`.
    ///
    /// A Linux program gets the spec's sets, and the kernel computes the effective ones in
    /// execve(). A guest is not executed, so what the kernel would have left is computed here
    /// (capabilities(7), "Transformation of capabilities during execve()"): root keeps its
    /// effective set, any other user the ambient one.
    pub fn of(sets: Option<&LinuxCapabilities>, uid: u32, runs: WorkloadKind) -> Self {
        let Some(sets) = sets else {
            return Self::default();
        };
        let bounding = bits(sets.bounding().iter().flatten());
        let effective = bits(sets.effective().iter().flatten());
        let permitted = bits(sets.permitted().iter().flatten());
        let inheritable = bits(sets.inheritable().iter().flatten());
        let ambient = bits(sets.ambient().iter().flatten());
        match runs {
            WorkloadKind::Native => Self {
                bounding,
                effective,
                permitted,
                inheritable,
                ambient,
            },
            WorkloadKind::Guest => {
                let kept = if uid == 0 { effective } else { ambient };
                let holds = kept & permitted & bounding & GUEST_CAPABILITIES.bits();
                Self {
                    bounding: holds,
                    effective: holds,
                    permitted: holds,
                    inheritable: 0,
                    ambient: 0,
                }
            }
        }
    }
}

fn bits<'a>(set: impl Iterator<Item = &'a Capability>) -> u64 {
    set.fold(Bits::empty(), |all, capability| all | bit(*capability))
        .bits()
}

fn bit(capability: Capability) -> Bits {
    match capability {
        Capability::AuditControl => Bits::AUDIT_CONTROL,
        Capability::AuditRead => Bits::AUDIT_READ,
        Capability::AuditWrite => Bits::AUDIT_WRITE,
        Capability::BlockSuspend => Bits::BLOCK_SUSPEND,
        Capability::Bpf => Bits::BPF,
        Capability::CheckpointRestore => Bits::CHECKPOINT_RESTORE,
        Capability::Chown => Bits::CHOWN,
        Capability::DacOverride => Bits::DAC_OVERRIDE,
        Capability::DacReadSearch => Bits::DAC_READ_SEARCH,
        Capability::Fowner => Bits::FOWNER,
        Capability::Fsetid => Bits::FSETID,
        Capability::IpcLock => Bits::IPC_LOCK,
        Capability::IpcOwner => Bits::IPC_OWNER,
        Capability::Kill => Bits::KILL,
        Capability::Lease => Bits::LEASE,
        Capability::LinuxImmutable => Bits::LINUX_IMMUTABLE,
        Capability::MacAdmin => Bits::MAC_ADMIN,
        Capability::MacOverride => Bits::MAC_OVERRIDE,
        Capability::Mknod => Bits::MKNOD,
        Capability::NetAdmin => Bits::NET_ADMIN,
        Capability::NetBindService => Bits::NET_BIND_SERVICE,
        Capability::NetBroadcast => Bits::NET_BROADCAST,
        Capability::NetRaw => Bits::NET_RAW,
        Capability::Perfmon => Bits::PERFMON,
        Capability::Setgid => Bits::SETGID,
        Capability::Setfcap => Bits::SETFCAP,
        Capability::Setpcap => Bits::SETPCAP,
        Capability::Setuid => Bits::SETUID,
        Capability::SysAdmin => Bits::SYS_ADMIN,
        Capability::SysBoot => Bits::SYS_BOOT,
        Capability::SysChroot => Bits::SYS_CHROOT,
        Capability::SysModule => Bits::SYS_MODULE,
        Capability::SysNice => Bits::SYS_NICE,
        Capability::SysPacct => Bits::SYS_PACCT,
        Capability::SysPtrace => Bits::SYS_PTRACE,
        Capability::SysRawio => Bits::SYS_RAWIO,
        Capability::SysResource => Bits::SYS_RESOURCE,
        Capability::SysTime => Bits::SYS_TIME,
        Capability::SysTtyConfig => Bits::SYS_TTY_CONFIG,
        Capability::Syslog => Bits::SYSLOG,
        Capability::WakeAlarm => Bits::WAKE_ALARM,
    }
}
