//! The root file system of a container, and the mounts below it.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use serde::{Deserialize, Serialize};

use super::options::{self, Options, PRIVATE};
use super::{KernelFeatures, Owners, Refused, UserNamespace, process};

/// The mount of the container's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Set on the root's mount alone, after everything below it is mounted.
    pub attributes: AttributeChange,
    /// Set on the root's mount alone after `pivot_root`, which refuses a shared one.
    pub propagation: Propagation,
}

/// A mount below the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestMount {
    /// A file or folder of the node.
    Bind(Bind),
    /// A new file system in memory.
    Tmpfs(Tmpfs),
}

/// A file or folder of the node, shown in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// The path on the node: absolute.
    pub source: PathBuf,
    /// The path in the container: absolute, without `.` and `..`. Made if it is missing: a folder
    /// for a folder, else a file.
    pub destination: PathBuf,
    /// Whether mounts below the source are included.
    pub reach: Reach,
    /// Changes of the mounts' attributes.
    pub attributes: Attributes,
    /// The propagation of later mounts between the sides.
    pub propagation: Propagation,
    /// The owners of its files.
    pub owners: Owners,
}

/// A new file system in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// The path in the container: absolute, without `.` and `..`. Made if it is missing.
    pub destination: PathBuf,
    /// Parameters of the file system, in order.
    pub options: Vec<TmpfsOption>,
    /// Attributes of its mount.
    pub attributes: AttributeChange,
    /// The propagation of later mounts between the sides.
    pub propagation: Propagation,
}

/// A parameter of a file system, as fsconfig(2) takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsOption {
    /// The name, such as `size`.
    pub key: String,
    /// The value, such as `64m`; none for a flag such as `noswap`.
    pub value: Option<String>,
}

/// Changes of mount attributes: first those of the mount itself, then those of it and everything
/// below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Of the mount itself.
    pub top: AttributeChange,
    /// Of the mount and everything below it (`AT_RECURSIVE`).
    pub tree: AttributeChange,
}

/// The bits `MOUNT_ATTR_*` that mount_setattr(2) sets and clears.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributeChange {
    /// `attr_set`.
    pub set: u64,
    /// `attr_clear`; has `MOUNT_ATTR__ATIME` if a mode of access times is set.
    pub clear: u64,
}

impl AttributeChange {
    /// Returns whether there is nothing to change.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Combines both changes.
    fn and(self, other: Self) -> Self {
        Self {
            set: self.set | other.set,
            clear: self.clear | other.clear,
        }
    }
}

/// The mounts that a change affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    /// The mount alone.
    Single,
    /// The mount with everything below it.
    Recursive,
}

/// How later mounts on one side appear on the other (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Propagation {
    /// The kind.
    pub kind: PropagationKind,
    /// The affected mounts.
    pub reach: Reach,
}

/// A kind of propagation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PropagationKind {
    /// Neither side sees later mounts of the other.
    Private,
    /// The container sees later mounts of the node.
    Slave,
    /// Both sides see later mounts of the other.
    Shared,
    /// As private, and cannot be bind-mounted.
    Unbindable,
}

impl PropagationKind {
    /// Returns the bit `MS_*` for mount(2) and for `mount_attr.propagation`.
    pub fn flag(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// The spec's `mounts`.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// The mounts to make, in order.
    pub(super) made: Vec<GuestMount>,
    /// Parameters of the file system that the set-up makes at `/dev`.
    pub(super) dev: Vec<TmpfsOption>,
}

/// The handling of one of the spec's mounts.
enum MountHandling {
    Made(GuestMount),
    /// A default mount that a guest has no use for.
    LeftOut,
    /// `/dev`, which the set-up makes itself.
    Dev(Vec<TmpfsOption>),
}

/// Default mounts of Linux containers that a guest cannot use: type and destination. WASI shows no
/// processes, kernel objects, cgroups, queues or terminals, and a missing mount cannot be attacked.
const UNUSED_MOUNTS: &[(&str, &str)] = &[
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("cgroup", "/sys/fs/cgroup"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("mqueue", "/dev/mqueue"),
    ("devpts", "/dev/pts"),
];

/// Attributes that a spec may request at `/dev`: that mount has them anyway, or they make no
/// difference.
const DEV_ATTRIBUTES: u64 = libc::MOUNT_ATTR_NOSUID
    | libc::MOUNT_ATTR_NOEXEC
    | libc::MOUNT_ATTR__ATIME
    | libc::MOUNT_ATTR_NODIRATIME;

impl Mounts {
    /// Returns all of the spec's mounts; sources of bind mounts may be relative to `bundle`.
    pub(super) fn of(
        spec: &Spec,
        bundle: &Path,
        users: Option<&UserNamespace>,
        kernel_features: KernelFeatures,
    ) -> Result<Self, Refused> {
        let label = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.mount_label().as_deref());
        let label = process::selinux("linux.mountLabel", label, kernel_features)?;
        let mut all = Self::default();
        for (index, mount) in spec.mounts().iter().flatten().enumerate() {
            match MountHandling::of(&format!("mounts[{index}]"), mount, bundle, users)? {
                MountHandling::Made(mut mount) => {
                    mount.label(label.as_deref());
                    all.made.push(mount);
                }
                MountHandling::LeftOut => {}
                MountHandling::Dev(options) => all.dev = options,
            }
        }
        all.dev.extend(label.as_deref().map(context));
        Ok(all)
    }
}

impl MountHandling {
    fn of(
        field: &str,
        mount: &Mount,
        bundle: &Path,
        users: Option<&UserNamespace>,
    ) -> Result<Self, Refused> {
        let destination = within(mount.destination());
        let kind = mount.typ().as_deref().unwrap_or_default();
        if UNUSED_MOUNTS
            .iter()
            .any(|(of, at)| *of == kind && Path::new(at) == destination)
        {
            return Ok(Self::LeftOut);
        }
        let at = destination.display().to_string();
        let refuse = |part: &str, reason: &str| {
            Refused::new(format!("{field}.{part}"), format!("{at}: {reason}"))
        };
        if destination == Path::new("/") {
            return Err(refuse("destination", "nothing is mounted over the root"));
        }
        let owners = Owners::of(mount, users).map_err(|(part, reason)| refuse(part, reason))?;
        let unknown = |word: &str| refuse("options", &format!("`{word}` is not supported"));
        let options =
            Options::read(mount.options().as_deref().unwrap_or_default()).map_err(unknown)?;
        match (kind, options.bind) {
            ("bind", _) | (_, Some(_)) => {
                if let Some(TmpfsOption { key, .. }) = options.parameters.first() {
                    return Err(unknown(key));
                }
                let source = mount
                    .source()
                    .as_ref()
                    .ok_or_else(|| refuse("source", "a bind mount needs one"))?;
                Ok(Self::Made(GuestMount::Bind(Bind {
                    source: bundle.join(source),
                    destination,
                    reach: options.bind.unwrap_or(Reach::Single),
                    attributes: options.attributes,
                    propagation: options.propagation,
                    owners,
                })))
            }
            _ if owners == Owners::Mapped => Err(refuse(
                "uidMappings",
                "a new file system has no owners to map",
            )),
            ("tmpfs", None) if destination == Path::new("/dev") => {
                let further =
                    options.attributes.top.and(options.attributes.tree).set & !DEV_ATTRIBUTES;
                let dev = (further == 0).then_some(Self::Dev(options.parameters));
                dev.ok_or_else(|| {
                    refuse(
                        "options",
                        "`/dev` is nosuid and noexec, and cannot have other restrictions: devices \
                         would not work on it",
                    )
                })
            }
            ("tmpfs", None) => Ok(Self::Made(GuestMount::Tmpfs(Tmpfs {
                destination,
                options: options.parameters,
                attributes: options.attributes.top.and(options.attributes.tree),
                propagation: options.propagation,
            }))),
            (kind, None) => Err(refuse(
                "type",
                &format!("`{kind}` is not mounted for a guest; bind and tmpfs are"),
            )),
        }
    }
}

impl Root {
    /// Decides from `root.readonly` and `linux.rootfsPropagation`.
    pub(super) fn of(spec: &Spec) -> Result<Self, Refused> {
        let readonly = spec
            .root()
            .as_ref()
            .and_then(oci_spec::runtime::Root::readonly)
            .unwrap_or(false);
        let set = if readonly { libc::MOUNT_ATTR_RDONLY } else { 0 };
        let propagation = match spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.rootfs_propagation().as_deref())
        {
            None | Some("") => PRIVATE,
            Some(word) => options::propagation(word).ok_or_else(|| {
                Refused::new(
                    "linux.rootfsPropagation",
                    format!("`{word}` is not a kind of propagation"),
                )
            })?,
        };
        Ok(Self {
            attributes: AttributeChange { set, clear: 0 },
            propagation,
        })
    }
}

impl GuestMount {
    /// Returns its path in the container.
    pub fn destination(&self) -> &Path {
        match self {
            Self::Bind(bind) => &bind.destination,
            Self::Tmpfs(tmpfs) => &tmpfs.destination,
        }
    }

    /// Sets SELinux's label of the files of a new file system. Files of a bind mount keep theirs.
    fn label(&mut self, label: Option<&str>) {
        if let Self::Tmpfs(tmpfs) = self {
            tmpfs.options.extend(label.map(context));
        }
    }
}

fn context(label: &str) -> TmpfsOption {
    TmpfsOption {
        key: "context".to_owned(),
        value: Some(label.to_owned()),
    }
}

/// Returns a path in a container, from its root: `.` and `..` are resolved without symbolic links,
/// and never above the root.
pub(super) fn within(path: &Path) -> PathBuf {
    let mut inside = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::ParentDir => drop(inside.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    inside
}
