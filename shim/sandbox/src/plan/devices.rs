//! The nodes and links of a container's `/dev`.

use std::path::{Component, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use serde::{Deserialize, Serialize};

use super::{Refused, TmpfsOption};

/// `/dev`: a file system in memory (nosuid, noexec, strictatime) with these in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    /// Parameters of the file system.
    pub options: Vec<TmpfsOption>,
    /// Nodes, each path once. Folders on the way are made, with mode 0755.
    pub nodes: Vec<Device>,
    /// Symbolic links, below `/dev`: what each is called, and what it says.
    pub links: Vec<(PathBuf, PathBuf)>,
}

/// One device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Below `/dev`: relative, without `..`.
    pub path: PathBuf,
    /// What it is.
    pub kind: DeviceKind,
    /// Permission bits, whatever the umask.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// A character device.
    Char {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A FIFO.
    Fifo,
}

/// What is always there (runtime spec, "Default Devices"): name and minor number, of major number 1
/// but for `tty`.
const ALWAYS: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
/// What programs expect there beside the nodes. They lead to nothing while nothing is mounted on
/// `/proc`.
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];
/// Permissions of a node when the spec does not say.
const MODE: u32 = 0o666;

impl Devices {
    /// The default devices, and the spec's `linux.devices` over them.
    pub(super) fn of(devices: &[LinuxDevice], options: Vec<TmpfsOption>) -> Result<Self, Refused> {
        let default = |&(name, major, minor): &(&str, u32, u32)| Device {
            path: PathBuf::from(name),
            kind: DeviceKind::Char { major, minor },
            mode: MODE,
            uid: 0,
            gid: 0,
        };
        let mut nodes: Vec<Device> = ALWAYS.iter().map(default).collect();
        for (index, device) in devices.iter().enumerate() {
            let device = Device::of(&format!("linux.devices[{index}]"), device)?;
            nodes.retain(|other| other.path != device.path);
            nodes.push(device);
        }
        let free = |name: &str| nodes.iter().all(|node| !node.path.starts_with(name));
        let links = LINKS
            .iter()
            .filter(|(name, _)| free(name))
            .map(|(name, target)| (PathBuf::from(name), PathBuf::from(target)));
        Ok(Self {
            options,
            links: links.collect(),
            nodes,
        })
    }
}

impl Device {
    fn of(field: &str, device: &LinuxDevice) -> Result<Self, Refused> {
        let refuse =
            |reason: &str| Refused::new(field, format!("{}: {reason}", device.path().display()));
        let path = device
            .path()
            .strip_prefix("/dev")
            .map_err(|_| refuse("a guest has devices below /dev only"))?;
        if path.as_os_str().is_empty()
            || !path
                .components()
                .all(|part| matches!(part, Component::Normal(_)))
        {
            return Err(refuse("not a path below /dev"));
        }
        let number = |number: i64| {
            u32::try_from(number)
                .map_err(|_| refuse("a device has no negative number, nor one so large"))
        };
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Char {
                major: number(device.major())?,
                minor: number(device.minor())?,
            },
            LinuxDeviceType::B => DeviceKind::Block {
                major: number(device.major())?,
                minor: number(device.minor())?,
            },
            LinuxDeviceType::P => DeviceKind::Fifo,
            LinuxDeviceType::A => {
                return Err(refuse("type `a` is for rules about devices, and no device"));
            }
        };
        Ok(Self {
            path: path.to_owned(),
            kind,
            mode: device.file_mode().unwrap_or(MODE) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        })
    }
}
