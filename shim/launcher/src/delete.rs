//! `delete`: asked for when a connection to a host has ended, to learn how its task ended and to
//! clean up behind it. containerd asks after each ordinary end of a container as well, and
//! sometimes twice at once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use shim_protocol::host::{Liveness, Place, liveness_after};
use shim_protocol::record::{Record, Records};
use shim_protocol::wire::Message;

use crate::flags::Flags;
use crate::remains;

/// As if killed: nobody saw how the task ended.
const LOST: u64 = 137;
/// How long a host may take to die. Only a host that lives on, although containerd gave up a
/// container that it has a record of, is watched for so long.
const DYING: Duration = Duration::from_secs(3);

/// Answers with the status of a lost task, after removing what it left. What has a host that lives
/// is that host's.
pub(crate) fn delete(flags: &Flags) -> Result<Vec<u8>> {
    let records = Records::of(&flags.address);
    match records.read(&flags.namespace, &flags.id)? {
        Some(record) if liveness_after(&record.host, DYING)? == Liveness::Dead => {
            remains::remove(&record, &flags.bundle.join("rootfs"))?;
            // Before the record, by which this would be done again.
            remove_host(&record)?;
            records.remove(&flags.namespace, &flags.id)?;
        }
        Some(_) => {}
        // Whoever removed it may have been killed before its folder was gone.
        None => records.remove_empty(&flags.namespace, &flags.id)?,
    }
    Ok(lost(SystemTime::now()))
}

/// Removes the dead host's own files, with the first of its containers.
fn remove_host(record: &Record) -> Result<()> {
    if let Some(place) = Place::of_any_socket(&record.host)
        && record.host.exists()
    {
        place.lock()?.remove(&record.host)?;
    }
    Ok(())
}

/// containerd's `DeleteResponse { exit_status = 2, Timestamp { seconds = 1, nanos = 2 } exited_at =
/// 3 }`.
fn lost(at: SystemTime) -> Vec<u8> {
    let since_1970 = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let timestamp = Message::default()
        .number(1, since_1970.as_secs())
        .number(2, u64::from(since_1970.subsec_nanos()));
    Message::default()
        .number(2, LOST)
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
    fn containerd_reads_status_and_time() {
        let response =
            DeleteResponse::parse_from_bytes(&lost(UNIX_EPOCH + Duration::new(5, 7))).unwrap();
        assert_eq!((response.pid, response.exit_status), (0, 137));
        assert_eq!(
            (response.exited_at.seconds, response.exited_at.nanos),
            (5, 7)
        );
    }
}
