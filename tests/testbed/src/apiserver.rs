//! A Kubernetes API server alone: no node, no scheduler, no controller. It stores and refuses
//! objects as a cluster's API server does, and starts within seconds.
//!
//! A shell supervises the server and etcd. It reads a pipe that this process holds: when this
//! process ends for any reason, the pipe closes, and the shell stops both and removes their folder.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::cache::Cache;
use crate::command::{Run, last_lines};
use crate::go::{self, modules};
use crate::versions::Versions;
use crate::wait;

/// Timeout of the start: on two idle cores the API server takes five seconds.
const START_TIMEOUT: Duration = Duration::from_mins(2);
/// Timeout of one `kubectl` call.
const CALL_TIMEOUT: Duration = Duration::from_mins(1);

/// The user with all rights.
const ADMIN: &str = "admin";

/// The supervising shell's script, run in the servers' folder: `$0` is etcd, the arguments are the
/// API server's. The data is thrown away, so the servers need not shut down in order.
const SUPERVISOR_SCRIPT: &str = r#"
"$0" --name=alone --data-dir=etcd --unsafe-no-fsync --log-level=warn \
    --listen-client-urls=unix://client.sock --advertise-client-urls=unix://client.sock \
    --listen-peer-urls=unix://peer.sock --initial-advertise-peer-urls=unix://peer.sock \
    --initial-cluster=alone=unix://peer.sock >etcd.log 2>&1 & etcd=$!
"$@" >apiserver.log 2>&1 & apiserver=$!
read -r _
kill -KILL "$apiserver" "$etcd"; wait
folder=$PWD; cd / && rm -rf "$folder"
"#;

/// A running API server; it stops when this value is dropped, and with this process at the latest.
#[derive(Debug)]
pub struct ApiServer {
    supervisor: Child,
    folder: PathBuf,
    kubectl: PathBuf,
    port: u16,
}

impl ApiServer {
    /// Starts an API server on a port of its own, and waits until it answers.
    ///
    /// # Errors
    /// Fails if its programs cannot be built, or it does not become ready; then the error carries
    /// its log.
    pub fn start(cache: &Cache) -> Result<Self> {
        let versions = Versions::pinned()?.cluster;
        let etcd = go::build(cache, &modules::etcd(&versions))?.join("etcd");
        let kubernetes = go::build(cache, &modules::kubernetes(&versions))?;
        let folder = tempfile::Builder::new()
            .prefix("wasmedge-apiserver-")
            .tempdir()
            .context("make a folder for an API server")?;
        make_account_keys(&kubernetes, &versions.kubernetes, folder.path())?;
        let token = fs::read_to_string("/proc/sys/kernel/random/uuid")
            .context("ask the kernel for a token")?;
        let token = token.trim();
        write(
            &folder.path().join("tokens.csv"),
            &format!("{token},{ADMIN},{ADMIN},system:masters\n"),
        )?;
        let port = free_port()?;
        write(
            &folder.path().join("kubeconfig"),
            &kubeconfig(folder.path(), port, ADMIN, token),
        )?;
        let supervisor = Command::new("sh")
            .args(["-c", SUPERVISOR_SCRIPT])
            .arg(etcd)
            .arg(kubernetes.join("kube-apiserver"))
            .args(flags(port))
            .current_dir(folder.path())
            // Ctrl-C in a terminal is for this process only: the shell cleans up after this process
            // has ended.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log(folder.path())?)
            .spawn()
            .context("start an API server")?;
        // From here on the supervisor removes the folder.
        let server = Self {
            supervisor,
            folder: folder.keep(),
            kubectl: kubernetes.join("kubectl"),
            port,
        };
        wait::until(
            "the API server to be ready",
            START_TIMEOUT,
            || server.poll_ready(),
            || server.log_tail(),
        )?;
        Ok(server)
    }

    /// Returns a run of `kubectl` with all rights.
    pub fn kubectl(&self) -> Run {
        Run::new(&self.kubectl)
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.folder.join("discovery"))
            .current_dir(&self.folder)
            .deadline(CALL_TIMEOUT)
    }

    /// Returns the kubeconfig file of a client with all rights.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Writes a kubeconfig file for the token that the API server issued to `name`. It is removed
    /// with the server.
    ///
    /// # Errors
    /// Fails if it cannot be written.
    pub fn kubeconfig_of(&self, name: &str, token: &str) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.kubeconfig"));
        write(&path, &kubeconfig(&self.folder, self.port, name, token))?;
        Ok(path)
    }

    /// Returns the last lines of the servers' logs.
    pub fn log_tail(&self) -> String {
        let log_of = |name: &str| {
            fs::read_to_string(self.folder.join(name))
                .map_or_else(|error| error.to_string(), |text| last_lines(&text, 20))
        };
        format!(
            "etcd:\n{}\nkube-apiserver:\n{}",
            log_of("etcd.log"),
            log_of("apiserver.log")
        )
    }

    fn poll_ready(&self) -> Result<Option<()>> {
        if fs::read_to_string(self.folder.join("apiserver.log"))
            .is_ok_and(|log| log.contains("address already in use"))
        {
            bail!("another process took the API server's port");
        }
        let answer = self.kubectl().args(["get", "--raw", "/readyz"]).output()?;
        Ok(answer.status.success().then_some(()))
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        // The supervisor ends after both servers; a failed wait has no effect on the test.
        let _ = self.supervisor.wait();
    }
}

/// Returns the API server's arguments; it runs in its folder.
fn flags(port: u16) -> Vec<String> {
    let fixed = [
        "--etcd-servers=unix://client.sock",
        "--bind-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--cert-dir=.",
        "--token-auth-file=tokens.csv",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://localhost",
        "--service-account-key-file=sa.pub",
        "--service-account-signing-key-file=sa.key",
        // No controller creates service accounts for namespaces here.
        "--disable-admission-plugins=ServiceAccount",
    ];
    fixed
        .into_iter()
        .map(str::to_owned)
        .chain([format!("--secure-port={port}")])
        .collect()
}

/// Writes `sa.key` and `sa.pub`, which an API server needs to sign tokens of service accounts.
fn make_account_keys(kubernetes: &Path, version: &str, folder: &Path) -> Result<()> {
    // Without a version kubeadm looks one up on the internet.
    let configuration = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "kubernetesVersion": format!("v{version}"),
        "certificatesDir": folder,
    });
    let file = folder.join("kubeadm.json");
    write(&file, &configuration.to_string())?;
    Run::new(kubernetes.join("kubeadm"))
        .args(["init", "phase", "certs", "sa", "--config"])
        .arg(&file)
        .done()
}

fn kubeconfig(folder: &Path, port: u16, user: &str, token: &str) -> String {
    let cluster = json!({
        "server": format!("https://127.0.0.1:{port}"),
        // The API server writes this certificate when it starts.
        "certificate-authority": folder.join("apiserver.crt"),
    });
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "alone", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "alone", "context": {"cluster": "alone", "user": user}}],
        "current-context": "alone",
    });
    config.to_string()
}

/// Returns a port on which no process listens.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("look for a free port")?;
    Ok(listener
        .local_addr()
        .context("ask which port was free")?
        .port())
}

fn log(folder: &Path) -> Result<File> {
    let path = folder.join("keeper.log");
    File::create(&path).with_context(|| format!("make {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
