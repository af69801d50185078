//! A Kubernetes API server with nothing behind it: no node, no scheduler, no controller. It stores
//! and refuses as a cluster's does, within seconds.
//!
//! A shell stands between us and its processes and reads a pipe that we hold: when we end, however
//! that happens, the pipe closes, and the shell ends them and removes their folder.

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

/// How long the API server may take until it is ready: on two idle cores it takes five seconds.
const START_LIMIT: Duration = Duration::from_mins(2);
/// How long one call of `kubectl` may take.
const CALL_LIMIT: Duration = Duration::from_mins(1);

/// Who may do everything.
const ADMIN: &str = "admin";

/// What the shell does, in the servers' folder: `$0` is etcd, the arguments are the API server's.
/// Nothing of their data is wanted afterwards, so that they need not end in order.
const KEEPER: &str = r#"
"$0" --name=alone --data-dir=etcd --unsafe-no-fsync --log-level=warn \
    --listen-client-urls=unix://client.sock --advertise-client-urls=unix://client.sock \
    --listen-peer-urls=unix://peer.sock --initial-advertise-peer-urls=unix://peer.sock \
    --initial-cluster=alone=unix://peer.sock >etcd.log 2>&1 & etcd=$!
"$@" >apiserver.log 2>&1 & apiserver=$!
read -r _
kill -KILL "$apiserver" "$etcd"; wait
folder=$PWD; cd / && rm -rf "$folder"
"#;

/// A running API server; it ends when this value is dropped, and with this process at the latest.
#[derive(Debug)]
pub struct ApiServer {
    keeper: Child,
    folder: PathBuf,
    kubectl: PathBuf,
    port: u16,
}

impl ApiServer {
    /// Starts one on a port of its own, and waits until it answers.
    ///
    /// # Errors
    /// When its programs cannot be built, or it does not become ready; then the error carries its
    /// log.
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
        let keeper = Command::new("sh")
            .args(["-c", KEEPER])
            .arg(etcd)
            .arg(kubernetes.join("kube-apiserver"))
            .args(flags(port))
            .current_dir(folder.path())
            // Ctrl-C in a terminal is for us: the shell has yet to tidy up when we have ended.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log(folder.path())?)
            .spawn()
            .context("start an API server")?;
        // From here on the keeper removes it.
        let server = Self {
            keeper,
            folder: folder.keep(),
            kubectl: kubernetes.join("kubectl"),
            port,
        };
        wait::until(
            "the API server to be ready",
            START_LIMIT,
            || server.look(),
            || server.last_words(),
        )?;
        Ok(server)
    }

    /// A run of `kubectl` as somebody who may do everything.
    pub fn kubectl(&self) -> Run {
        Run::new(&self.kubectl)
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.folder.join("discovery"))
            .current_dir(&self.folder)
            .deadline(CALL_LIMIT)
    }

    /// The file that lets a client in, as somebody who may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// A file that lets a client in with a token that the API server has given `name`. It goes with
    /// the server.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig_of(&self, name: &str, token: &str) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.kubeconfig"));
        write(&path, &kubeconfig(&self.folder, self.port, name, token))?;
        Ok(path)
    }

    /// What the API server has said of itself last.
    pub fn last_words(&self) -> String {
        let said = |name: &str| {
            fs::read_to_string(self.folder.join(name))
                .map_or_else(|error| error.to_string(), |text| last_lines(&text, 20))
        };
        format!(
            "etcd:\n{}\nkube-apiserver:\n{}",
            said("etcd.log"),
            said("apiserver.log")
        )
    }

    fn look(&self) -> Result<Option<()>> {
        if fs::read_to_string(self.folder.join("apiserver.log"))
            .is_ok_and(|log| log.contains("address already in use"))
        {
            bail!("somebody else took the API server's port meanwhile");
        }
        let answer = self.kubectl().args(["get", "--raw", "/readyz"]).output()?;
        Ok(answer.status.success().then_some(()))
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // It ends once both servers have; there is nobody to tell if it cannot be waited for.
        let _ = self.keeper.wait();
    }
}

/// The API server's arguments; it runs in its folder.
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
        // There is no controller that would make namespaces' service accounts.
        "--disable-admission-plugins=ServiceAccount",
    ];
    fixed
        .into_iter()
        .map(str::to_owned)
        .chain([format!("--secure-port={port}")])
        .collect()
}

/// Writes `sa.key` and `sa.pub`, which an API server wants for accounts' tokens.
fn make_account_keys(kubernetes: &Path, version: &str, folder: &Path) -> Result<()> {
    // Without a version kubeadm asks the internet for one.
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
        // The API server makes a certificate for itself when it starts.
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

/// A port that nobody listens on.
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
