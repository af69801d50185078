//! The files of a cgroup as a source of metrics.

use std::fs;
use std::path::PathBuf;

use crate::{Cgroup, CgroupError, files};

/// The files of a cgroup that metrics are read from. Missing files mean that nothing was counted.
pub(super) struct Source<'a> {
    pub(super) cgroup: &'a Cgroup,
}

/// Lines of `key value`.
pub(super) struct Keyed(String);

impl Keyed {
    /// Returns the value of a key; 0 for one that this kernel does not count.
    pub(super) fn at(&self, key: &str) -> u64 {
        files::keyed(&self.0, key).unwrap_or(0)
    }
}

impl Source<'_> {
    pub(super) fn text(&self, controller: &str, file: &str) -> Result<Option<String>, CgroupError> {
        self.cgroup
            .folder_of(controller)
            .map_or(Ok(None), |folder| files::read_if_there(&folder.join(file)))
    }

    pub(super) fn keyed(&self, controller: &str, file: &str) -> Result<Option<Keyed>, CgroupError> {
        Ok(self.text(controller, file)?.map(Keyed))
    }

    pub(super) fn number(&self, controller: &str, file: &str) -> Result<Option<u64>, CgroupError> {
        Ok(self
            .text(controller, file)?
            .as_deref()
            .and_then(files::parse))
    }

    /// Lists the huge page sizes that the cgroup counts (`2MB`), by the names of files with this
    /// suffix.
    pub(super) fn page_sizes(&self, ending: &str) -> Vec<String> {
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

/// Parses the major and minor number of a device: `8:0`.
pub(super) fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Parses a line of RDMA's files: `mlx4_0 hca_handle=2 hca_object=max`. No limit becomes the
/// greatest number.
pub(super) fn rdma(line: &str) -> Option<(String, u32, u32)> {
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
