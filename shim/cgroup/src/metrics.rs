//! Resource usage of a container, as the message of containerd's Stats.
//!
//! containerd finds the message's type by its name; CRI accepts both types.

use std::fs;
use std::path::Path;

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;

use crate::{Cgroup, CgroupError, Version, files};

mod source;
mod v1;
mod v2;

use source::Source;

#[cfg(test)]
mod tests;

/// The name under which containerd registers the metrics of cgroup v1.
const V1: &str = "io.containerd.cgroups.v1.Metrics";
/// The name for cgroup v2.
const V2: &str = "io.containerd.cgroups.v2.Metrics";

/// The file in which cgroup v2 counts OOM kills.
pub(crate) const V2_MEMORY_EVENTS: &str = v2::MEMORY_EVENTS;

pub(crate) fn all(cgroup: &Cgroup) -> Result<Any, CgroupError> {
    let folder = cgroup.main_folder();
    // A single file may be missing. If the folder is missing, the cgroup is gone, which is an
    // error.
    fs::metadata(&folder).map_err(CgroupError::io("read", &folder))?;
    let source = Source { cgroup };
    let (type_url, encoded) = match cgroup.hierarchies().version() {
        Version::V1 => (V1, v1::metrics(&source)?.write_to_bytes()),
        Version::V2 => (V2, v2::metrics(&source)?.write_to_bytes()),
    };
    let value = encoded.map_err(|source| CgroupError::Encode { folder, source })?;
    Ok(Any {
        type_url: type_url.to_owned(),
        value,
        ..Any::default()
    })
}

pub(crate) fn oom_kills(cgroup: &Cgroup) -> Result<u64, CgroupError> {
    let file = match cgroup.hierarchies().version() {
        Version::V1 => v1::OOM,
        Version::V2 => V2_MEMORY_EVENTS,
    };
    Ok(Source { cgroup }
        .keyed("memory", file)?
        .map_or(0, |events| events.at("oom_kill")))
}

/// Returns the count of the cgroup's parent, which includes all cgroups below it.
pub(crate) fn slice_oom_kills(cgroup: &Cgroup) -> Result<Option<u64>, CgroupError> {
    let folder = cgroup.folder_of("memory");
    let Some(slice) = folder.as_deref().and_then(Path::parent) else {
        return Ok(None);
    };
    let events = files::read_if_there(&slice.join(V2_MEMORY_EVENTS))?;
    Ok(events.and_then(|events| files::keyed(&events, "oom_kill")))
}

pub(crate) fn memory_peak(cgroup: &Cgroup) -> Result<Option<u64>, CgroupError> {
    let file = match cgroup.hierarchies().version() {
        Version::V1 => "memory.max_usage_in_bytes",
        Version::V2 => "memory.peak",
    };
    Source { cgroup }.number("memory", file)
}
