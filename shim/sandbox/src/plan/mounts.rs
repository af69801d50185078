//! The root file system of a container, and what is mounted below it.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use serde::{Deserialize, Serialize};

use super::options::{self, Options, PRIVATE};
use super::{KernelFeatures, Owners, Refused, UserNamespace, process};

/// How the container's root is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Set on the root's mount alone, after everything below it is mounted.
    pub attributes: AttributeChange,
    /// Given to the root's mount, and to none below it, after `pivot_root` (which refuses a shared
    /// one).
    pub propagation: Propagation,
}

/// One mount below the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestMount {
    /// A file or folder of the host's.
    Bind(Bind),
    /// A new file system in memory.
    Tmpfs(Tmpfs),
}

/// A file or folder of the host's, shown in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// On the host: absolute.
    pub source: PathBuf,
    /// In the container: absolute, without `.` and `..`. Made where it is missing: a folder for a
    /// folder, else a file.
    pub destination: PathBuf,
    /// Whether what is mounted below the source comes along.
    pub reach: Reach,
    /// Changes of the mounts' attributes.
    pub attributes: Attributes,
    /// How later mounts on either side reach the other.
    pub propagation: Propagation,
    /// Whose its files are.
    pub owners: Owners,
}

/// A new file system in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// In the container: absolute, without `.` and `..`. Made where it is missing.
    pub destination: PathBuf,
    /// Parameters of the file system, in order.
    pub options: Vec<TmpfsOption>,
    /// Attributes of its mount.
    pub attributes: AttributeChange,
    /// How later mounts on either side reach the other.
    pub propagation: Propagation,
}

/// One parameter of a file system, as fsconfig(2) takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsOption {
    /// As in `size`.
    pub key: String,
    /// As in `64m`; none for a flag such as `noswap`.
    pub value: Option<String>,
}

/// Changes of mount attributes: first those of the mount itself, then those of it and everything
/// below.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Of the mount itself.
    pub top: AttributeChange,
    /// Of the mount and all that is mounted below it (`AT_RECURSIVE`).
    pub tree: AttributeChange,
}

/// What mount_setattr(2) sets and clears: bits `MOUNT_ATTR_*`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributeChange {
    /// `attr_set`.
    pub set: u64,
    /// `attr_clear`; holds `MOUNT_ATTR__ATIME` when a mode of access times is set.
    pub clear: u64,
}

impl AttributeChange {
    /// Whether there is nothing to do.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Both changes.
    fn and(self, other: Self) -> Self {
        Self {
            set: self.set | other.set,
            clear: self.clear | other.clear,
        }
    }
}

/// One mount, or it and all below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    /// The mount alone.
    Single,
    /// With all that is mounted below it.
    Recursive,
}

/// How mounts that appear later on one side are seen on the other (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Propagation {
    /// The kind.
    pub kind: PropagationKind,
    /// Of the mount alone, or of all below it too.
    pub reach: Reach,
}

/// A kind of propagation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PropagationKind {
    /// Neither sees the other's later mounts.
    Private,
    /// The container sees the host's.
    Slave,
    /// Both see each other's.
    Shared,
    /// As private, and cannot be bind-mounted.
    Unbindable,
}

impl PropagationKind {
    /// The bit `MS_*` for mount(2) and for `mount_attr.propagation`.
    pub fn flag(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// What the spec's `mounts` come to.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// What is mounted, in order.
    pub(super) made: Vec<GuestMount>,
    /// Parameters of the file system that the set-up makes at `/dev`.
    pub(super) dev: Vec<TmpfsOption>,
}

/// What one of the spec's mounts comes to.
enum MountHandling {
    Made(GuestMount),
    /// A default mount that a guest has no use for.
    LeftOut,
    /// `/dev`, which the set-up makes itself.
    Dev(Vec<TmpfsOption>),
}

/// Default mounts of a Linux container that a guest has no use for: their type, and where they lie.
/// WASI shows no processes, kernel objects, cgroups, queues or terminals, and what is not there
/// cannot be attacked.
const OF_NO_USE: &[(&str, &str)] = &[
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("cgroup", "/sys/fs/cgroup"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("mqueue", "/dev/mqueue"),
    ("devpts", "/dev/pts"),
];

/// Attributes that a spec may ask for at `/dev`: what is made there has them anyway, or it makes no
/// difference.
const ON_DEV: u64 = libc::MOUNT_ATTR_NOSUID
    | libc::MOUNT_ATTR_NOEXEC
    | libc::MOUNT_ATTR__ATIME
    | libc::MOUNT_ATTR_NODIRATIME;

impl Mounts {
    /// All of the spec's mounts; sources of bind mounts may be relative to `bundle`.
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
        if OF_NO_USE
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
        let unknown = |word: &str| refuse("options", &format!("`{word}` is not served"));
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
                let further = options.attributes.top.and(options.attributes.tree).set & !ON_DEV;
                let dev = (further == 0).then_some(Self::Dev(options.parameters));
                dev.ok_or_else(|| {
                    refuse(
                        "options",
                        "it is nosuid and noexec, and nothing else: devices would not work on it",
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
    /// What `root.readonly` and `linux.rootfsPropagation` say.
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
                    format!("`{word}` is no kind of propagation"),
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
    /// Where it lies in the container.
    pub fn destination(&self) -> &Path {
        match self {
            Self::Bind(bind) => &bind.destination,
            Self::Tmpfs(tmpfs) => &tmpfs.destination,
        }
    }

    /// Gives the files of a file system of our own SELinux's label. Those of a bind mount keep
    /// theirs.
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

/// A path in a container, from its root: `.` and `..` taken by the letter, and never above the
/// root.
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
