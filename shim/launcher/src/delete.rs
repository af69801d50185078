//! `delete`: asked for when a host is gone, to learn how its task ended and to clean up behind it.

use std::time::SystemTime;

use anyhow::{Context as _, Result};
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{Message as _, MessageField};

use crate::flags::Flags;
use crate::start;

/// As if killed: nobody saw how the task ended.
const LOST: u32 = 137;

/// Answers with the status of a lost task. containerd unmounts the root file system and removes the bundle itself;
/// the address file goes with it, so the host's socket is removed here while it can still be found.
pub(crate) fn delete(flags: &Flags) -> Result<Vec<u8>> {
    start::remove_dead_socket(flags)?;
    let exited_at = Timestamp::from(SystemTime::now());
    let response = DeleteResponse { exit_status: LOST, exited_at: MessageField::some(exited_at), ..Default::default() };
    response.write_to_bytes().context("encode the answer")
}
