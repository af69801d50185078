//! Name and version, answered before anything else is touched: containerd 2.2 and later ask with every task, and a
//! shim that stumbles here makes each start three times slower.

use anyhow::{Context as _, Result};
use containerd_shim_protos::protobuf::{Message as _, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};

/// The runtime's name in containerd.
pub(crate) const RUNTIME: &str = "io.containerd.wasmedge.v1";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that a build for a bundle was made from.
const REVISION: Option<&str> = option_env!("WASMEDGE_RUNTIME_REVISION");

/// The `RuntimeInfo` message of containerd's introspection API.
pub(crate) fn for_containerd() -> Result<Vec<u8>> {
    let version = RuntimeVersion { version: VERSION.to_owned(), revision: REVISION.unwrap_or_default().to_owned(), ..Default::default() };
    let info = RuntimeInfo { name: RUNTIME.to_owned(), version: MessageField::some(version), ..Default::default() };
    info.write_to_bytes().context("encode the runtime's information")
}

/// Three lines.
pub(crate) fn for_people() -> Vec<u8> {
    format!("containerd-shim-wasmedge-v1:\n  Version:  {VERSION}\n  Revision: {}\n", REVISION.unwrap_or("unknown")).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerd_reads_name_and_version() {
        let info = RuntimeInfo::parse_from_bytes(&for_containerd().unwrap()).unwrap();
        assert_eq!((info.name.as_str(), info.version.version.as_str()), (RUNTIME, VERSION));
    }
}
