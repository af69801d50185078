//! The container's configuration as libcontainer gets it: an edited copy in the container's state.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    LinuxNamespaceType, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator,
    MountBuilder, Spec,
};

use crate::container::Processes;
use crate::error::NativeError;

mod cgroups;
mod root;

/// The path at which a program finds its terminal.
const CONSOLE: &str = "/dev/console";
/// The mounts that this process sees.
const MOUNTS: &str = "/proc/self/mountinfo";

/// Reads the configuration of the bundle `bundle`.
pub(crate) fn read(bundle: &Path) -> Result<Spec, NativeError> {
    let path = bundle.join("config.json");
    let bytes = std::fs::read(&path).map_err(|source| NativeError::State {
        action: "read",
        path: path.clone(),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|error| NativeError::Config {
        path,
        reason: error.to_string(),
    })
}

/// Prepares the container's configuration for libcontainer: [`adapt`], and the changes and checks
/// that depend on the node's files.
///
/// # Errors
/// When the configuration cannot be used, or the root file system must not be.
pub(crate) fn prepare(
    spec: &mut Spec,
    bundle: &Path,
    console: Option<&Path>,
    processes: Processes,
) -> Result<(), NativeError> {
    adapt(spec, bundle, console, processes, is_own_pid_namespace)?;
    root::check(spec)?;
    let cgroup = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.cgroups_path().clone());
    let Some(cgroup) = cgroup.filter(|_| has_cgroup_mount(spec)) else {
        return Ok(());
    };
    let mounts = std::fs::read_to_string(MOUNTS);
    let mounts = mounts.map_err(|source| NativeError::State {
        action: "read",
        path: MOUNTS.into(),
        source,
    })?;
    cgroups::replace(spec, &cgroup, &cgroups::hierarchies(&mounts))
        .map_err(|error| builder_failed(bundle, &error))
}

fn has_cgroup_mount(spec: &Spec) -> bool {
    spec.mounts()
        .iter()
        .flatten()
        .any(|mount| mount.typ().as_deref() == Some("cgroup"))
}

/// Changes the configuration:
/// - the root file system's path becomes absolute;
/// - the host's pid namespace is replaced by a new one. In a pod that shares its processes each
///   container's configuration names that of the sandbox, and the sandbox is a thread of the host.
///   If the container is to see the node's processes, the namespace is removed instead;
/// - the terminal is removed. libcontainer would make one of its own and send it over a socket, a
///   second protocol beside that of guests. So it gets three streams, and the host's terminal is
///   mounted at [`CONSOLE`];
/// - the two values of a masked comparison in the filter of system calls are swapped: libcontainer
///   (0.7) takes the mask for the value and the value for the mask. The usual profile's rule that
///   `clone` may make no namespaces would let every `clone` pass.
fn adapt(
    spec: &mut Spec,
    bundle: &Path,
    console: Option<&Path>,
    processes: Processes,
    is_hosts: impl Fn(&Path) -> io::Result<bool>,
) -> Result<(), NativeError> {
    if let Some(root) = spec.root_mut() {
        let path = bundle.join(root.path());
        root.set_path(path);
    }
    if let Some(namespaces) = spec
        .linux_mut()
        .as_mut()
        .and_then(|linux| linux.namespaces_mut().as_mut())
    {
        let mut hosts = false;
        for namespace in namespaces
            .iter_mut()
            .filter(|namespace| namespace.typ() == LinuxNamespaceType::Pid)
        {
            if let Some(path) = namespace.path().clone() {
                hosts = is_hosts(&path).map_err(|source| NativeError::State {
                    action: "open the pid namespace",
                    path,
                    source,
                })?;
                if hosts {
                    namespace.set_path(None);
                }
            }
        }
        if hosts && processes == Processes::Node {
            namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::Pid);
        }
    }
    if let Some(filter) = spec
        .linux_mut()
        .as_mut()
        .and_then(|linux| linux.seccomp_mut().as_mut())
    {
        let mut calls = filter.syscalls().clone().unwrap_or_default();
        for call in &mut calls {
            let arguments = call.args().as_ref().map(|arguments| {
                arguments
                    .iter()
                    .copied()
                    .map(swapped)
                    .collect::<Result<_, _>>()
            });
            call.set_args(
                arguments
                    .transpose()
                    .map_err(|error| builder_failed(bundle, &error))?,
            );
        }
        filter.set_syscalls(Some(calls));
    }
    if let Some(process) = spec.process_mut() {
        process.set_terminal(None).set_console_size(None);
    }
    if let Some(console) = console {
        let mount = MountBuilder::default()
            .destination(CONSOLE)
            .typ("bind")
            .source(console)
            .options(vec![
                "bind".to_owned(),
                "nosuid".to_owned(),
                "noexec".to_owned(),
            ])
            .build()
            .map_err(|error| builder_failed(bundle, &error))?;
        let mut mounts = spec.mounts().clone().unwrap_or_default();
        mounts.push(mount);
        spec.set_mounts(Some(mounts));
    }
    Ok(())
}

/// Swaps the values of a masked comparison; other comparisons stay.
fn swapped(argument: LinuxSeccompArg) -> Result<LinuxSeccompArg, OciSpecError> {
    if argument.op() != LinuxSeccompOperator::ScmpCmpMaskedEq {
        return Ok(argument);
    }
    let (mask, value) = (argument.value(), argument.value_two().unwrap_or_default());
    LinuxSeccompArgBuilder::default()
        .index(argument.index())
        .value(value)
        .value_two(mask)
        .op(argument.op())
        .build()
}

fn builder_failed(bundle: &Path, error: &OciSpecError) -> NativeError {
    NativeError::Config {
        path: bundle.join("config.json"),
        reason: error.to_string(),
    }
}

/// Returns whether `path` is the pid namespace of this process.
fn is_own_pid_namespace(path: &Path) -> io::Result<bool> {
    let [theirs, ours] = [path.metadata()?, Path::new("/proc/self/ns/pid").metadata()?];
    Ok((theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()))
}

/// Returns the path of the terminal `descriptor`.
pub(crate) fn terminal_path(descriptor: &impl std::os::fd::AsFd) -> Result<PathBuf, NativeError> {
    let path = format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&descriptor.as_fd())
    );
    std::fs::read_link(&path).map_err(|source| NativeError::State {
        action: "read",
        path: path.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = r#"{
        "ociVersion": "1.1.0",
        "process": {"terminal": true, "consoleSize": {"height": 2, "width": 3}, "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [
            {"type": "pid", "path": "/proc/12/ns/pid"}, {"type": "ipc", "path": "/proc/12/ns/ipc"}, {"type": "mount"}
        ]}
    }"#;

    fn adapted(
        text: &str,
        console: Option<&Path>,
        is_hosts: impl Fn(&Path) -> io::Result<bool>,
    ) -> Result<Spec, NativeError> {
        let mut spec: Spec = serde_json::from_str(text).unwrap();
        adapt(
            &mut spec,
            Path::new("/bundle"),
            console,
            Processes::Own,
            is_hosts,
        )
        .map(|()| spec)
    }

    /// The paths of the namespaces of `kind`; an empty one for a new namespace.
    fn namespaces(spec: &Spec, kind: LinuxNamespaceType) -> Vec<PathBuf> {
        let namespaces = spec
            .linux()
            .as_ref()
            .unwrap()
            .namespaces()
            .as_ref()
            .unwrap();
        let of_kind = namespaces
            .iter()
            .filter(|namespace| namespace.typ() == kind);
        of_kind
            .map(|namespace| namespace.path().clone().unwrap_or_default())
            .collect()
    }

    #[test]
    fn pid_namespace_of_the_host_is_replaced_and_other_namespaces_stay() {
        let spec = adapted(POD, None, |_| Ok(true)).unwrap();
        assert_eq!(namespaces(&spec, LinuxNamespaceType::Pid), [Path::new("")]);
        assert_eq!(
            namespaces(&spec, LinuxNamespaceType::Ipc),
            [Path::new("/proc/12/ns/ipc")]
        );
    }

    #[test]
    fn container_that_sees_the_nodes_processes_joins_no_pid_namespace() {
        for (is_hosts, expected) in [
            (true, &[][..]),
            (false, &[PathBuf::from("/proc/12/ns/pid")]),
        ] {
            let mut spec: Spec = serde_json::from_str(POD).unwrap();
            adapt(
                &mut spec,
                Path::new("/bundle"),
                None,
                Processes::Node,
                |_| Ok(is_hosts),
            )
            .unwrap();
            assert_eq!(namespaces(&spec, LinuxNamespaceType::Pid), expected);
        }
    }

    #[test]
    fn pid_namespace_of_another_container_is_joined() {
        let spec = adapted(POD, None, |_| Ok(false)).unwrap();
        assert_eq!(
            namespaces(&spec, LinuxNamespaceType::Pid),
            [Path::new("/proc/12/ns/pid")]
        );
    }

    #[test]
    fn configuration_without_a_pid_namespace_gets_none() {
        let host_pid = POD.replace(r#"{"type": "pid", "path": "/proc/12/ns/pid"},"#, "");
        let spec = adapted(&host_pid, None, |_| Ok(true)).unwrap();
        assert_eq!(
            namespaces(&spec, LinuxNamespaceType::Pid),
            Vec::<PathBuf>::new()
        );
    }

    #[test]
    fn missing_pid_namespace_is_an_error_with_its_path() {
        let error = adapted(POD, None, |_| Err(io::ErrorKind::NotFound.into())).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot open the pid namespace /proc/12/ns/pid"
        );
    }

    #[test]
    fn path_of_the_root_becomes_absolute() {
        let spec = adapted(POD, None, |_| Ok(false)).unwrap();
        assert_eq!(
            spec.root().as_ref().unwrap().path(),
            Path::new("/bundle/rootfs")
        );
        let absolute = POD.replace("rootfs", "/images/7");
        assert_eq!(
            adapted(&absolute, None, |_| Ok(false))
                .unwrap()
                .root()
                .as_ref()
                .unwrap()
                .path(),
            Path::new("/images/7")
        );
    }

    #[test]
    fn values_of_a_masked_comparison_are_swapped() {
        let filter = r#"{"seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["clone"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"},
                     {"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}]}]}, "namespaces""#;
        let spec = adapted(&POD.replace(r#"{"namespaces""#, filter), None, |_| {
            Ok(false)
        })
        .unwrap();
        let seccomp = spec.linux().as_ref().unwrap().seccomp().clone().unwrap();
        let arguments = seccomp.syscalls().clone().unwrap()[0]
            .args()
            .clone()
            .unwrap();
        assert_eq!(
            (arguments[0].value(), arguments[0].value_two()),
            (0, Some(0x7e02_0000))
        );
        assert_eq!((arguments[1].value(), arguments[1].value_two()), (7, None));
    }

    #[test]
    fn terminal_of_the_host_is_the_console_and_libcontainer_makes_none() {
        let spec = adapted(POD, Some(Path::new("/dev/pts/4")), |_| Ok(false)).unwrap();
        assert_eq!(spec.process().as_ref().unwrap().terminal(), None);
        let mount = spec.mounts().as_ref().unwrap().last().unwrap();
        assert_eq!(mount.destination(), Path::new(CONSOLE));
        assert_eq!(mount.source().as_deref(), Some(Path::new("/dev/pts/4")));
    }

    #[test]
    fn own_pid_namespace_is_recognized() {
        assert!(is_own_pid_namespace(Path::new("/proc/self/ns/pid")).unwrap());
        assert!(!is_own_pid_namespace(Path::new("/proc/self/ns/uts")).unwrap());
    }
}
