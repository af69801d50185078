//! The API server that all tests share, with the chart's CRDs, and requests to it.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::apiserver::ApiServer;
use testbed::cache::Cache;
use testbed::command::Run;
use testbed::{helm, wait};

/// It stops with this process: statics are not dropped.
static SERVER: LazyLock<ApiServer> = LazyLock::new(|| {
    let server = Cache::open()
        .and_then(|cache| ApiServer::start(&cache))
        .expect("the API server starts");
    let applied = server
        .kubectl()
        .args(["apply", "--server-side", "-f"])
        .arg(crds())
        .output()
        .expect("kubectl runs");
    assert!(
        applied.status.success() && applied.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&applied.stderr)
    );
    let served = || {
        Ok(server
            .kubectl()
            .args(["get", "wasmruntimes,wasmruntimenodes"])
            .output()?
            .status
            .success()
            .then_some(()))
    };
    wait::until(
        "both kinds to be served",
        Duration::from_secs(30),
        served,
        || server.log_tail(),
    )
    .expect("the CRDs are served");
    server
});

/// The result of a request: the stored object, or the text of the refusal.
pub(crate) type Answer = Result<Value, String>;

/// Returns the folder of the chart's CRDs.
pub(crate) fn crds() -> PathBuf {
    helm::chart().join("crds")
}

/// Returns the root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .components()
        .collect()
}

/// Returns a run of `kubectl` with all rights.
pub(crate) fn kubectl() -> Run {
    SERVER.kubectl()
}

/// Returns a `WasmRuntime` of this name.
pub(crate) fn runtime(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "runtime.wasmedge.dev/v1alpha1", "kind": "WasmRuntime",
        "metadata": {"name": name}, "spec": spec})
}

/// Sends a new object without storing it.
pub(crate) fn try_create(object: &Value) -> Answer {
    send(&["create", "--dry-run=server"], object)
}

/// Creates an object.
pub(crate) fn create(object: &Value) -> Answer {
    send(&["create"], object)
}

/// Sends a replacement of an existing object without storing it.
pub(crate) fn try_replace(object: &Value) -> Answer {
    send(&["replace", "--dry-run=server"], object)
}

fn send(verb: &[&str], object: &Value) -> Answer {
    answer(
        kubectl()
            .args(verb)
            .args(["-o", "json", "-f", "-"])
            .input(object.to_string()),
    )
}

/// Runs a command that prints an object, and returns the result.
pub(crate) fn answer(run: Run) -> Answer {
    let output = run.output().expect("kubectl runs");
    if !output.status.success() {
        return Err(text(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout).expect("kubectl prints the object as JSON"))
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Fails unless each spec is stored.
pub(crate) fn accepted(specs: impl IntoIterator<Item = Value>) {
    for spec in specs {
        let answer = try_create(&runtime("row", &spec));
        assert!(answer.is_ok(), "{spec} was refused: {answer:?}");
    }
}

/// Fails unless each spec is refused with its message.
pub(crate) fn refused<'a>(specs: impl IntoIterator<Item = (Value, &'a str)>) {
    for (spec, message) in specs {
        let answer = try_create(&runtime("row", &spec));
        assert!(
            answer
                .as_ref()
                .is_err_and(|refusal| refusal.contains(message)),
            "{spec}: not refused with {message:?}: {answer:?}"
        );
    }
}
