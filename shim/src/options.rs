//! The runtime options of a handler, as containerd's configuration gives them and Create carries them.

use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::protobuf::{CodedInputStream, Message as _};
use containerd_shim::protos::shim::oci::Options as RuncOptions;
use serde::Deserialize;

use crate::error::CreateError;
use crate::sandbox::CgroupDriver;

/// Options of a handler in containerd's configuration:
/// `[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.wasmedge.options]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeOptions {
    /// Whether systemd sets up cgroups; must be what kubelet's `cgroupDriver` says.
    #[serde(default, rename = "SystemdCgroup")]
    systemd_cgroup: bool,
}

impl RuntimeOptions {
    /// Decodes the `options` of a Create request. CRI sends `runtimeoptions.v1.Options` for a handler with an options
    /// table, and runc's own type for one without: from that, too, only the cgroup driver is taken.
    ///
    /// # Errors
    /// When they are of another type, or hold an unknown key.
    pub fn decode(options: Option<&Any>) -> Result<Self, CreateError> {
        let Some(any) = options else { return Ok(Self::default()) };
        let failed = |reason: String| CreateError::Options { reason };
        match any.type_url.trim_start_matches("type.googleapis.com/") {
            "" => Ok(Self::default()),
            "runtimeoptions.v1.Options" => {
                let body = config_body(&any.value).map_err(|error| failed(error.to_string()))?;
                toml::from_str(&body).map_err(|error| failed(error.message().to_owned()))
            }
            "containerd.runc.v1.Options" => {
                let runc = RuncOptions::parse_from_bytes(&any.value).map_err(|error| failed(error.to_string()))?;
                Ok(Self { systemd_cgroup: runc.systemd_cgroup })
            }
            other => Err(failed(format!("their type is {other}, known is runtimeoptions.v1.Options"))),
        }
    }

    /// Who sets up cgroups.
    pub fn cgroups(self) -> CgroupDriver {
        if self.systemd_cgroup { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs }
    }
}

/// Field 3 of `runtimeoptions.v1.Options`: the options table, as TOML.
fn config_body(message: &[u8]) -> containerd_shim::protos::protobuf::Result<String> {
    /// Field number 3, wire type 2 (length-delimited).
    const CONFIG_BODY: u32 = 3 << 3 | 2;
    let mut input = CodedInputStream::from_bytes(message);
    let mut body = String::new();
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        match tag {
            CONFIG_BODY => body = input.read_string()?,
            // The other two fields, `type_url` and `config_path`, are strings as well.
            _ if tag & 7 == 2 => drop(input.read_string()?),
            _ => drop(input.read_raw_varint64()?),
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(type_url: &str, value: Vec<u8>) -> Any {
        Any { type_url: type_url.to_owned(), value, ..Default::default() }
    }

    /// `runtimeoptions.v1.Options { type_url: "x", config_body: body }`.
    fn table(body: &str) -> Any {
        let mut value = vec![0x0a, 1, b'x', 0x1a, u8::try_from(body.len()).unwrap()];
        value.extend_from_slice(body.as_bytes());
        any("runtimeoptions.v1.Options", value)
    }

    fn driver(options: Option<&Any>) -> Result<CgroupDriver, String> {
        RuntimeOptions::decode(options).map(RuntimeOptions::cgroups).map_err(|error| error.to_string())
    }

    #[test]
    fn the_options_table_decides_and_its_absence_means_defaults() {
        assert_eq!(driver(None), Ok(CgroupDriver::Cgroupfs));
        assert_eq!(driver(Some(&table(""))), Ok(CgroupDriver::Cgroupfs));
        assert_eq!(driver(Some(&table("SystemdCgroup = true"))), Ok(CgroupDriver::Systemd));
        let runc = RuncOptions { systemd_cgroup: true, ..Default::default() }.write_to_bytes().unwrap();
        assert_eq!(driver(Some(&any("containerd.runc.v1.Options", runc))), Ok(CgroupDriver::Systemd));
    }

    #[test]
    fn an_unknown_key_is_named_with_those_that_are_known() {
        let error = driver(Some(&table("Colour = 1"))).unwrap_err();
        assert!(error.contains("Colour") && error.contains("SystemdCgroup"), "{error}");
        assert!(driver(Some(&any("something.Else", Vec::new()))).unwrap_err().contains("something.Else"));
    }
}
