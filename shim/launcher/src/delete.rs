//! `delete`: containerd runs it when a connection to a host has ended, to get the exit status of
//! the task and to clean up. It runs it after each ordinary exit of a container as well, and
//! sometimes twice at once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use shim_protocol::host::{HostFiles, Liveness, liveness_after};
use shim_protocol::record::{Record, Records};
use shim_protocol::wire::Message;

use crate::cleanup;
use crate::flags::Flags;

/// SIGKILL's exit status, because the real one is unknown.
const UNKNOWN_STATUS: u64 = 137;
/// How long a dying host may take. The full time passes only if a host lives on although containerd
/// has given up a container of which the host has a record.
const HOST_DEATH_TIMEOUT: Duration = Duration::from_secs(3);

/// Cleans up what a lost task left, and returns its exit status. Containers of a live host are left
/// to it.
pub(crate) fn delete(flags: &Flags) -> Result<Vec<u8>> {
    let records = Records::new(&flags.address);
    match records.read(&flags.namespace, &flags.id)? {
        Some(record) if liveness_after(&record.host, HOST_DEATH_TIMEOUT)? == Liveness::Dead => {
            cleanup::remove(&record, &flags.bundle.join("rootfs"))?;
            // Before the record, because a later `delete` repeats all this by it.
            remove_host(&record)?;
            records.remove(&flags.namespace, &flags.id)?;
        }
        Some(_) => {}
        // The launcher that removed the record may have been killed before it removed the folder.
        None => records.remove_empty(&flags.namespace, &flags.id)?,
    }
    Ok(response(SystemTime::now()))
}

/// Removes the dead host's own files, once for all of its containers.
fn remove_host(record: &Record) -> Result<()> {
    if let Some(files) = HostFiles::from_any_socket(&record.host)
        && record.host.exists()
    {
        files.lock()?.remove(&record.host)?;
    }
    Ok(())
}

/// Encodes containerd's `DeleteResponse { exit_status = 2, Timestamp { seconds = 1, nanos = 2 }
/// exited_at = 3 }`.
fn response(at: SystemTime) -> Vec<u8> {
    let since_1970 = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let timestamp = Message::default()
        .number(1, since_1970.as_secs())
        .number(2, u64::from(since_1970.subsec_nanos()));
    Message::default()
        .number(2, UNKNOWN_STATUS)
        .message(3, &timestamp)
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use containerd_shim_protos::api::DeleteResponse;
    use containerd_shim_protos::protobuf::Message as _;

    use super::*;

    #[test]
    fn delete_response_has_status_and_time() {
        let response =
            DeleteResponse::parse_from_bytes(&response(UNIX_EPOCH + Duration::new(5, 7))).unwrap();
        assert_eq!((response.pid, response.exit_status), (0, 137));
        assert_eq!(
            (response.exited_at.seconds, response.exited_at.nanos),
            (5, 7)
        );
    }
}
