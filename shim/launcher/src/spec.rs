//! The pod of a container, read from the bundle's OCI spec.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use shim_protocol::host::Pod;

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(rename = "io.kubernetes.cri.sandbox-id")]
    sandbox: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-namespace")]
    namespace: Option<String>,
}

/// Returns the pod; `None` for a bundle without a spec, which containerd's Sandbox API creates for
/// a sandbox.
pub(crate) fn pod(bundle: &Path) -> Result<Option<Pod>> {
    let file = bundle.join("config.json");
    let text = match fs::read(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.with_context(|| format!("read {}", file.display()))?,
    };
    let spec: Spec = serde_json::from_slice(&text)
        .with_context(|| format!("{} is not a valid OCI runtime spec", file.display()))?;
    let Annotations { sandbox, namespace } = spec.annotations;
    Ok(Some(Pod { sandbox, namespace }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(config: &str) -> Result<Option<Pod>> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), config).unwrap();
        pod(folder.path())
    }

    #[test]
    fn pod_is_read_from_cri_annotations() {
        let cri = r#"{"ociVersion":"1.1.0","annotations":{"io.kubernetes.cri.container-type":"container",
            "io.kubernetes.cri.sandbox-id":"s1","io.kubernetes.cri.sandbox-namespace":"shop"}}"#;
        let pod = Pod {
            sandbox: Some("s1".to_owned()),
            namespace: Some("shop".to_owned()),
        };
        assert_eq!(of(cri).unwrap(), Some(pod));
        assert_eq!(of("{}").unwrap(), Some(Pod::default()));
    }

    #[test]
    fn bundle_without_spec_is_a_sandbox_and_malformed_spec_is_named() {
        assert_eq!(pod(Path::new("/nowhere")).unwrap(), None);
        let error = format!("{:#}", of("[").unwrap_err());
        assert!(
            error.contains("config.json is not a valid OCI runtime spec"),
            "{error}"
        );
    }
}
