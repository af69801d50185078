//! `delete`: asked for when a host is gone, to learn how its task ended and to clean up behind it.

use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{Message as _, MessageField};

use crate::flags::Flags;
use crate::remains;
use crate::start::{self, Host};

/// As if killed: nobody saw how the task ended.
const LOST: u32 = 137;

/// Answers with the status of a lost task. containerd also calls this after each ordinary end of a task, while the host
/// serves the pod's others: then there is nothing to clean up, and nothing is touched.
pub(crate) fn delete(flags: &Flags) -> Result<Vec<u8>> {
    // The bundle is the working directory (containerd's shim contract); its path cannot be asked for while it is removed.
    match start::host(flags, Path::new("."))? {
        Host::Listens => {}
        Host::Gone(address) => {
            remains::remove(&flags.namespace, &flags.id)?;
            address.remove()?;
        }
        Host::Unknown => remains::remove(&flags.namespace, &flags.id)?,
    }
    let exited_at = Timestamp::from(SystemTime::now());
    let response = DeleteResponse { exit_status: LOST, exited_at: MessageField::some(exited_at), ..Default::default() };
    response.write_to_bytes().context("encode the answer")
}
