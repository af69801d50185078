//! The runtime options of a new container.

use containerd_shim_protos::api::CreateTaskRequest;
use runtime_options::RuntimeOptions;
use shim_protocol::options::{Given, OptionsError, OptionsFile};

use crate::bundle::Bundle;
use crate::error::CreateError;
use crate::host::Host;
use crate::task::Body;

/// Returns the options of the container that `request` is to create from `bundle`: those of the
/// request, of the file that the launcher handed over in the bundle, or of its pod's sandbox.
/// containerd gives none for a handler without an options table, and version 2.3 and later start
/// the launcher for the sandbox alone.
///
/// # Errors
/// When options cannot be read or are not accepted.
pub(crate) fn for_container(
    host: &Host,
    request: &CreateTaskRequest,
    bundle: &Bundle,
) -> Result<RuntimeOptions, CreateError> {
    let given = request
        .options
        .as_ref()
        .map(|any| Given::decode(&any.type_url, &any.value))
        .transpose()?
        .unwrap_or_default();
    let handed_over = if let Given::Table(_) = given {
        None
    } else {
        handed_over(bundle.folder())?
    };
    Ok(given.for_container(handed_over, of_pod(host, bundle)))
}

/// Returns the options that the launcher handed over in a bundle.
///
/// # Errors
/// When they cannot be read or are not accepted.
pub(crate) fn handed_over(
    bundle: &std::path::Path,
) -> Result<Option<RuntimeOptions>, OptionsError> {
    Ok(OptionsFile::in_bundle(bundle)?.map(|file| file.options))
}

/// Returns the options of the sandbox of the container's pod, if this host has it.
fn of_pod(host: &Host, bundle: &Bundle) -> Option<RuntimeOptions> {
    match &host.task(bundle.sandbox()?).ok()?.body {
        Body::Pod(pod) => Some(pod.options.clone()),
        Body::Guest(_) | Body::Native(_) => None,
    }
}
