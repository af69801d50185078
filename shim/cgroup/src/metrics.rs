//! What a container uses, as containerd's Stats wants it.
//!
//! containerd finds the message's type by its name, and CRI takes what it shows from either of the
//! two.

use std::fs;
use std::path::PathBuf;

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;

use crate::{Cgroup, CgroupError, Version, files};

mod v1;
mod v2;

#[cfg(test)]
mod tests;

/// The name under which containerd registers the metrics of cgroup v1.
const V1: &str = "io.containerd.cgroups.v1.Metrics";
/// The same of cgroup v2.
const V2: &str = "io.containerd.cgroups.v2.Metrics";

/// Where cgroup v2 counts what the kernel killed.
pub(crate) const V2_MEMORY_EVENTS: &str = v2::MEMORY_EVENTS;

pub(crate) fn all(cgroup: &Cgroup) -> Result<Any, CgroupError> {
    let folder = cgroup.main_folder();
    // Each file alone may be missing; without the cgroup all are, and that is no container that
    // uses nothing.
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

/// The files of a cgroup, as they are read for metrics: what is not there was not counted.
struct Source<'a> {
    cgroup: &'a Cgroup,
}

/// Lines of `key value`.
struct Keyed(String);

impl Keyed {
    /// The value of a key; 0 for one that this kernel does not count.
    fn at(&self, key: &str) -> u64 {
        files::keyed(&self.0, key).unwrap_or(0)
    }
}

impl Source<'_> {
    fn text(&self, controller: &str, file: &str) -> Result<Option<String>, CgroupError> {
        self.cgroup
            .folder_of(controller)
            .map_or(Ok(None), |folder| files::read_if_there(&folder.join(file)))
    }

    fn keyed(&self, controller: &str, file: &str) -> Result<Option<Keyed>, CgroupError> {
        Ok(self.text(controller, file)?.map(Keyed))
    }

    fn number(&self, controller: &str, file: &str) -> Result<Option<u64>, CgroupError> {
        Ok(self
            .text(controller, file)?
            .as_deref()
            .and_then(files::parse))
    }

    /// The sizes of huge pages that the cgroup counts, as its files are named (`2MB`), by files of
    /// this ending.
    fn page_sizes(&self, ending: &str) -> Vec<String> {
        let entries = self
            .cgroup
            .folder_of("hugetlb")
            .and_then(|folder: PathBuf| fs::read_dir(folder).ok());
        let names = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        let size = |name: String| {
            Some(
                name.strip_prefix("hugetlb.")?
                    .strip_suffix(ending)?
                    .to_owned(),
            )
        };
        let mut sizes: Vec<String> = names
            .filter_map(size)
            .filter(|size| !size.contains('.'))
            .collect();
        sizes.sort();
        sizes
    }
}

/// Major and minor number of a device: `8:0`.
fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A line of RDMA's files: `mlx4_0 hca_handle=2 hca_object=max`. A limit that is none is the
/// greatest number.
fn rdma(line: &str) -> Option<(String, u32, u32)> {
    let mut words = line.split_whitespace();
    let name = words.next()?.to_owned();
    let mut counts = [0, 0];
    for word in words {
        let (key, value) = word.split_once('=')?;
        let value = files::parse(value).map_or(0, |value| u32::try_from(value).unwrap_or(u32::MAX));
        match key {
            "hca_handle" => counts[0] = value,
            "hca_object" => counts[1] = value,
            _ => {}
        }
    }
    Some((name, counts[0], counts[1]))
}
