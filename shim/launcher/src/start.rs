//! `start`: finds the host for this container, or spawns it, and prints its address.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use runtime_options::{LogLevel, RuntimeOptions};
use shim_protocol::host::{
    Group, HostArguments, HostFiles, HostKey, Liveness, LockedFiles, Pod, SOCKETS, liveness,
};
use shim_protocol::options::OptionsFile;
use shim_protocol::record::Records;
use shim_protocol::start_input::StartInput;

use crate::bundle::{self, Bundle};
use crate::flags::Flags;
use crate::{info, input, spec};

/// Finds or spawns the host; returns its address for containerd.
pub(crate) fn start(flags: &Flags) -> Result<Vec<u8>> {
    // The working directory is the container's bundle (containerd's shim contract).
    let folder = Path::new(".");
    let input = StartInput::decode(&input::read()?, &flags.namespace, &flags.id)?;
    let pod = spec::pod(folder)?;
    let socket = match find_host_of_pod(&Records::new(&flags.address), flags, pod.as_ref())? {
        Some(socket) => socket,
        None => find_or_spawn_host(flags, &input, pod.as_ref(), folder)?,
    };
    let address = format!("unix://{}", socket.display());
    // containerd 1.6 and 1.7 read this file after their restart; 2.x stores the printed reply
    // itself.
    fs::write(folder.join("address"), &address)
        .with_context(|| format!("write the file address for container {}", flags.id))?;
    Ok(input.reply.encode(&address))
}

/// Returns the host of the pod's sandbox, if it is alive: a pod stays with it when a newer bundle
/// is installed meanwhile. Such a host is not idle, so no lock is needed.
fn find_host_of_pod(
    records: &Records,
    flags: &Flags,
    pod: Option<&Pod>,
) -> Result<Option<PathBuf>> {
    let Some(sandbox) = pod
        .and_then(|pod| pod.sandbox.as_deref())
        .filter(|&sandbox| sandbox != flags.id)
    else {
        return Ok(None);
    };
    let Some(record) = records.read(&flags.namespace, sandbox)? else {
        return Ok(None);
    };
    Ok(match liveness(&record.host)? {
        Liveness::Listens => Some(record.host),
        Liveness::Dead => None,
    })
}

/// Returns the host for new containers of this one's group; spawns it if there is none. Options
/// from a file are copied to `folder`, the container's bundle, for the host.
fn find_or_spawn_host(
    flags: &Flags,
    input: &StartInput,
    pod: Option<&Pod>,
    folder: &Path,
) -> Result<PathBuf> {
    let bundle = Bundle::of_this_executable()?;
    let file = options_file()?;
    let options = input.options.clone().with_file(file.as_ref())?;
    if let Some(file) = &file {
        file.copy_to_bundle(folder)?;
    }
    let group = Group::of(options.handler.grouping, pod, &flags.id);
    let key = HostKey::new(
        &flags.namespace,
        &flags.address,
        bundle.root(),
        &info::build(),
        &group,
    );
    let folder = input.socket_folder.as_deref().unwrap_or(Path::new(SOCKETS));
    let files = HostFiles::new(folder, key.clone());
    let locked = files.lock()?;
    if let Some(socket) = locked.current()? {
        locked.touch()?;
        return Ok(socket);
    }
    spawn(flags, &options, key, &bundle, locked)
}

/// Reads the options file beside the path by which containerd started the launcher: a handler's
/// `runtime_path` may be a link in a folder with its own file.
fn options_file() -> Result<Option<OptionsFile>> {
    let launcher = std::env::args_os().next().unwrap_or_default();
    Ok(OptionsFile::beside(Path::new(&launcher))?)
}

fn spawn(
    flags: &Flags,
    options: &RuntimeOptions,
    key: HostKey,
    bundle: &Bundle,
    locked: LockedFiles<'_>,
) -> Result<PathBuf> {
    // Checked before a socket exists that would have no listener.
    let command = bundle.host()?;
    let (socket, listener) = locked.listen()?;
    let arguments = HostArguments {
        launcher: bundle.launcher().to_owned(),
        namespace: flags.namespace.clone(),
        address: flags.address.clone(),
        id: flags.id.clone(),
        key,
        socket: socket.clone(),
        grouping: options.handler.grouping,
        log_level: if flags.debug {
            options.handler.log_level.max(LogLevel::Debug)
        } else {
            options.handler.log_level
        },
        max_containers: options.handler.max_containers,
    };
    if let Err(error) = bundle::spawn(command, &arguments, listener) {
        locked.remove(&socket)?;
        return Err(error);
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use shim_protocol::record::Record;

    use super::*;
    use crate::flags::Verb;

    fn flags(id: &str) -> Flags {
        Flags {
            verb: Verb::Start,
            namespace: "k8s.io".to_owned(),
            id: id.to_owned(),
            address: "/s".to_owned(),
            bundle: PathBuf::from("."),
            debug: false,
        }
    }

    #[test]
    fn container_goes_to_the_host_of_its_pods_sandbox_while_it_lives() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::at(folder.path().join("records"), "/s");
        let host = folder.path().join("s");
        let pod = Pod {
            sandbox: Some("s1".to_owned()),
            namespace: None,
        };
        let of = |id: &str, pod: Option<&Pod>| find_host_of_pod(&records, &flags(id), pod).unwrap();
        assert_eq!(of("c1", Some(&pod)), None, "a sandbox of another runtime");
        let (namespace, id) = ("k8s.io".to_owned(), "s1".to_owned());
        records
            .write(&Record {
                namespace,
                id,
                host: host.clone(),
                cgroups: vec![],
                mounts: vec![],
                native: None,
            })
            .unwrap();
        assert_eq!(of("c1", Some(&pod)), None, "the host is dead");
        let _listener = UnixListener::bind(&host).unwrap();
        assert_eq!(of("c1", Some(&pod)), Some(host));
        assert_eq!(of("s1", Some(&pod)), None, "the sandbox itself");
        assert_eq!(
            (of("c1", Some(&Pod::default())), of("c1", None)),
            (None, None),
            "no pod"
        );
    }
}
