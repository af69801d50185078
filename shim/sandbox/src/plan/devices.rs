//! The nodes and links of a container's `/dev`.

use std::path::{Component, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use serde::{Deserialize, Serialize};

use super::{Refused, TmpfsOption};

/// The content of `/dev`, a tmpfs (nosuid, noexec, strictatime).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    /// Parameters of the file system.
    pub options: Vec<TmpfsOption>,
    /// Nodes, each path once. Missing parent folders are made with mode 0755.
    pub nodes: Vec<Device>,
    /// Symbolic links below `/dev`: name and target.
    pub links: Vec<(PathBuf, PathBuf)>,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Below `/dev`: relative, without `..`.
    pub path: PathBuf,
    /// The kind of node.
    pub kind: DeviceKind,
    /// Permission bits, independent of the umask.
    pub mode: u32,
    /// The user id of the owner.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
}

/// The kinds of nodes.
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

/// The default devices (runtime spec, "Default Devices"): name, major and minor number.
const DEFAULT_DEVICES: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
/// Links that programs expect beside the nodes. They are dangling while nothing is mounted on
/// `/proc`.
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];
/// Permissions of a node if the spec has none.
const DEFAULT_MODE: u32 = 0o666;

impl Devices {
    /// Merges the default devices with the spec's `linux.devices`, which win.
    pub(super) fn of(devices: &[LinuxDevice], options: Vec<TmpfsOption>) -> Result<Self, Refused> {
        let default = |&(name, major, minor): &(&str, u32, u32)| Device {
            path: PathBuf::from(name),
            kind: DeviceKind::Char { major, minor },
            mode: DEFAULT_MODE,
            uid: 0,
            gid: 0,
        };
        let mut nodes: Vec<Device> = DEFAULT_DEVICES.iter().map(default).collect();
        for (index, device) in devices.iter().enumerate() {
            let device = Device::of(&format!("linux.devices[{index}]"), device)?;
            nodes.retain(|other| other.path != device.path);
            nodes.push(device);
        }
        let is_free = |name: &str| nodes.iter().all(|node| !node.path.starts_with(name));
        let links = LINKS
            .iter()
            .filter(|(name, _)| is_free(name))
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
            u32::try_from(number).map_err(|_| refuse("a device number is negative or too large"))
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
                return Err(refuse("type `a` is for device rules and names no device"));
            }
        };
        Ok(Self {
            path: path.to_owned(),
            kind,
            mode: device.file_mode().unwrap_or(DEFAULT_MODE) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        })
    }
}
