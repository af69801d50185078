//! The API server, its objects, and the operator's process.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use testbed::apiserver::ApiServer;
use testbed::cache::Cache;
use testbed::command::{Run, last_lines};
use testbed::wait;

use crate::STEP_TIMEOUT;
use crate::accounts::Account;

/// The namespace of the operator.
pub(crate) const NAMESPACE: &str = "wasmedge-system";
/// The executable of the operator.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_wasmedge-operator");

/// An API server with nodes that are only objects.
#[derive(Clone)]
pub(crate) struct Cluster {
    server: Arc<ApiServer>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let server = Cache::open()
            .and_then(|cache| ApiServer::start(&cache))
            .expect("the API server starts");
        let cluster = Self {
            server: Arc::new(server),
        };
        cluster.create(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        );
        cluster
    }

    pub(crate) fn server(&self) -> &ApiServer {
        &self.server
    }

    /// Runs `kubectl` in the operator's namespace, and returns its output.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.server
            .kubectl()
            .args(["--namespace", NAMESPACE])
            .args(arguments)
            .text()
            .expect("kubectl does it")
    }

    /// Returns an object, or a list of a kind; Events are in another namespace than the operator.
    pub(crate) fn get(&self, what: &str) -> Value {
        let namespace = if what.starts_with("events") {
            "default"
        } else {
            NAMESPACE
        };
        let text = self.kubectl(&["get", what, "--namespace", namespace, "-o", "json"]);
        serde_json::from_str(&text).expect("kubectl prints JSON")
    }

    pub(crate) fn create(&self, object: &Value) {
        let run = self
            .server
            .kubectl()
            .args(["create", "--namespace", NAMESPACE, "-f", "-"])
            .input(object.to_string());
        run.done().expect("the object is created");
    }

    /// Returns the object that would be stored.
    pub(crate) fn try_create(&self, object: &Value) -> Value {
        let run = self
            .server
            .kubectl()
            .args(["create", "--dry-run=server", "-o", "json", "-f", "-"])
            .input(object.to_string());
        serde_json::from_str(&run.text().expect("the object would be created"))
            .expect("kubectl prints JSON")
    }

    pub(crate) fn patch(&self, what: &str, change: &Value) {
        self.kubectl(&["patch", what, "--type=merge", "-p", &change.to_string()]);
    }

    pub(crate) fn patch_status(&self, what: &str, status: &Value) {
        let change = json!({"status": status}).to_string();
        self.kubectl(&[
            "patch",
            what,
            "--subresource=status",
            "--type=merge",
            "-p",
            &change,
        ]);
    }

    /// Adds a Ready Linux node with these taints.
    pub(crate) fn add_node(&self, name: &str, taints: &[&str]) {
        let taints: Vec<Value> = taints
            .iter()
            .map(|key| json!({"key": key, "effect": "NoSchedule"}))
            .collect();
        let labels = json!({"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            "kubernetes.io/hostname": name});
        self.create(
            &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name,
            "labels": labels}, "spec": {"taints": taints}}),
        );
        let time = "2026-01-01T00:00:00Z";
        self.patch_status(
            &format!("node/{name}"),
            &json!({
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady",
                "message": "",
                    "lastHeartbeatTime": time, "lastTransitionTime": time}],
                "nodeInfo": {"architecture": "amd64", "bootID": "b",
                "containerRuntimeVersion": "containerd://2.1.0", "kernelVersion": "6",
                    "kubeProxyVersion": "", "kubeletVersion": "v1.37.2", "machineID": name,
                    "operatingSystem": "linux",
                    "osImage": "Debian GNU/Linux 12 (bookworm)", "systemUUID": name},
                "runtimeHandlers": [{"name": ""}],
            }),
        );
    }
}

/// The running operator.
pub(crate) struct Operator {
    child: Child,
    log: PathBuf,
}

impl Operator {
    pub(crate) fn start(cluster: &Cluster, account: &Account) -> Self {
        let log = account.kubeconfig().with_extension("log");
        let out = File::create(&log).expect("the log can be created");
        let child = Command::new(PROGRAM)
            .args([
                "run",
                "--namespace",
                NAMESPACE,
                "--installer-image=registry.example/installer:1",
                "--identity=pod-1",
            ])
            .args(["--listen=127.0.0.1:0", "--log-level=debug"])
            .env("KUBECONFIG", account.kubeconfig())
            .stdout(out.try_clone().expect("the log can be opened again"))
            .stderr(out)
            .stdin(Stdio::null())
            .spawn()
            .expect("the operator starts");
        let operator = Self { child, log };
        let leads = || {
            cluster
                .kubectl(&["get", "leases", "-o", "name"])
                .contains("wasmedge-operator")
        };
        operator.wait("the operator to lead", leads);
        operator
    }

    /// Waits until `done` returns true.
    pub(crate) fn wait(&self, what: &str, done: impl Fn() -> bool) {
        wait::until(
            what,
            STEP_TIMEOUT,
            || Ok(done().then_some(())),
            || self.last_lines(),
        )
        .expect("it comes to pass");
    }

    fn last_lines(&self) -> String {
        last_lines(&fs::read_to_string(&self.log).unwrap_or_default(), 40)
    }

    /// Stops it, and returns all its output.
    pub(crate) fn end(mut self) -> String {
        Run::new("kill")
            .arg(self.child.id().to_string())
            .done()
            .expect("a signal can be sent");
        let ended = || {
            Ok(self
                .child
                .try_wait()
                .map_err(anyhow::Error::from)?
                .map(|status| status.success()))
        };
        let succeeded = wait::until("the operator to end", STEP_TIMEOUT, ended, String::new)
            .expect("the operator ends");
        let log = fs::read_to_string(&self.log).expect("the log can be read");
        assert!(succeeded, "{log}");
        log
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // It has exited already if nothing failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
