//! The command line. Every option of `run` may also be given as an environment variable.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use k8s_openapi::api::core::v1::{EnvVar, ResourceRequirements};
use k8s_openapi::jiff::SignedDuration;

use crate::crd::Arch;

/// Puts the WasmEdge runtime on the nodes of a cluster, one by one, and lets pods land only where
/// it works.
#[derive(Debug, Parser)]
#[command(name = "wasmedge-operator", version, arg_required_else_help = true)]
pub struct Cli {
    /// What is to be done.
    #[command(subcommand)]
    pub command: Command,
    /// How messages are written.
    #[command(flatten)]
    pub log: Log,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the operator.
    Run(Box<Settings>),
    /// The definitions of the API: WasmRuntime and WasmRuntimeNode.
    #[command(subcommand)]
    Crds(Crds),
    /// The runtimes of the cluster.
    #[command(subcommand)]
    Runtimes(Runtimes),
}

/// What is to be done with the definitions of the API.
#[derive(Debug, Subcommand)]
pub enum Crds {
    /// Brings the cluster's definitions up to date, and waits until it serves them.
    Apply,
    /// Prints them as JSON, for `kubectl apply --server-side -f -`.
    Print,
}

/// What is to be done with the cluster's runtimes.
#[derive(Debug, Subcommand)]
pub enum Runtimes {
    /// Deletes every WasmRuntime, and waits until every node is clean.
    Remove(Remove),
}

/// How runtimes are removed.
#[derive(Debug, Args)]
pub struct Remove {
    /// How long to wait for the nodes: 90s, 10m, 1h.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub timeout: Duration,
}

/// How messages are written.
#[derive(Debug, Clone, Copy, Args)]
pub struct Log {
    /// How messages are written.
    #[arg(
        long = "log-format",
        global = true,
        env = "WASMEDGE_OPERATOR_LOG_FORMAT",
        value_enum,
        default_value_t = LogFormat::Text
    )]
    pub format: LogFormat,
    /// The least urgent messages that are written.
    #[arg(
        long = "log-level",
        global = true,
        env = "WASMEDGE_OPERATOR_LOG_LEVEL",
        value_enum,
        default_value_t = LogLevel::Info
    )]
    pub level: LogLevel,
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// How urgent messages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Somebody has to act.
    Error,
    /// Somebody should look.
    Warn,
    /// What the operator does.
    Info,
    /// Why it does it.
    Debug,
    /// All of it.
    Trace,
}

/// How the operator runs.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Namespace that the operator runs in; installers and the leader's Lease lie there.
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "WASMEDGE_OPERATOR_NAMESPACE",
        value_parser = label
    )]
    pub namespace: String,
    /// What installers are made of.
    #[command(flatten)]
    pub installer: Installer,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "WASMEDGE_OPERATOR_LISTEN",
        default_value = "0.0.0.0:8080"
    )]
    pub listen: SocketAddr,
    /// Name of this replica, which no other has: its pod's name.
    #[arg(long, value_name = "POD", env = "WASMEDGE_OPERATOR_IDENTITY", value_parser = text)]
    pub identity: String,
    /// Whether a Lease decides which replica leads; without it there may be one replica only.
    #[arg(
        long,
        value_name = "BOOL",
        env = "WASMEDGE_OPERATOR_LEADER_ELECTION",
        default_value_t = true,
        action = clap::ArgAction::Set,
        hide_possible_values = true
    )]
    pub leader_election: bool,
}

impl Settings {
    /// What installer Jobs are made of.
    pub fn installer(&self) -> &Installer {
        &self.installer
    }
}

/// What installer Jobs are made of.
#[derive(Debug, Clone, Args)]
pub struct Installer {
    /// The installer's image. It holds the runtime too.
    #[arg(
        id = "installer-image",
        long = "installer-image",
        value_name = "REF",
        env = "WASMEDGE_OPERATOR_INSTALLER_IMAGE",
        value_parser = text
    )]
    pub image: String,
    /// Architecture that the image is for; repeatable, or separated by commas. Nodes of others are
    /// left alone.
    #[arg(
        id = "installer-architecture",
        long = "installer-architecture",
        value_name = "ARCH",
        env = "WASMEDGE_OPERATOR_INSTALLER_ARCHITECTURE",
        default_value = "amd64",
        value_delimiter = ',',
        value_parser = architecture
    )]
    pub architectures: Vec<Arch>,
    /// When nodes pull it.
    #[arg(
        id = "installer-image-pull-policy",
        long = "installer-image-pull-policy",
        value_name = "POLICY",
        env = "WASMEDGE_OPERATOR_INSTALLER_IMAGE_PULL_POLICY",
        value_enum,
        default_value_t = PullPolicy::IfNotPresent
    )]
    pub pull_policy: PullPolicy,
    /// Secret of the namespace with which nodes pull it; repeatable, or separated by commas.
    /// Installers pull runtimes that are OCI artifacts with the first one.
    #[arg(
        id = "installer-image-pull-secret",
        long = "installer-image-pull-secret",
        value_name = "NAME",
        env = "WASMEDGE_OPERATOR_INSTALLER_IMAGE_PULL_SECRET",
        value_delimiter = ',',
        value_parser = object_name
    )]
    pub pull_secrets: Vec<String>,
    /// Service account of installers' pods. They get no token of it.
    #[arg(
        id = "installer-service-account",
        long = "installer-service-account",
        value_name = "NAME",
        env = "WASMEDGE_OPERATOR_INSTALLER_SERVICE_ACCOUNT",
        default_value = "default",
        value_parser = object_name
    )]
    pub service_account: String,
    /// Environment variable of installers: a proxy; repeatable, or one a line.
    #[arg(
        id = "installer-env",
        long = "installer-env",
        value_name = "NAME=VALUE",
        env = "WASMEDGE_OPERATOR_INSTALLER_ENV",
        value_delimiter = '\n',
        value_parser = variable
    )]
    pub env: Vec<EnvVar>,
    /// Priority class of installers' pods.
    #[arg(
        id = "installer-priority-class",
        long = "installer-priority-class",
        value_name = "NAME",
        env = "WASMEDGE_OPERATOR_INSTALLER_PRIORITY_CLASS",
        value_parser = object_name
    )]
    pub priority_class: Option<String>,
    /// Resources of installers' containers, as `resources` of a container.
    #[arg(
        id = "installer-resources",
        long = "installer-resources",
        value_name = "JSON",
        env = "WASMEDGE_OPERATOR_INSTALLER_RESOURCES",
        value_parser = resources
    )]
    pub resources: Option<ResourceRequirements>,
}

/// When nodes pull an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum PullPolicy {
    /// At each start.
    Always,
    /// Where it is not.
    IfNotPresent,
    /// Never: it is brought there in another way.
    Never,
}

impl PullPolicy {
    /// The word in a pod's spec.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// The command line as a value, for the reference that is generated from it.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

fn text(value: &str) -> Result<String, String> {
    match value {
        "" => Err("it is empty".to_owned()),
        value if value.chars().any(char::is_whitespace) => Err("it has spaces in it".to_owned()),
        value => Ok(value.to_owned()),
    }
}

/// A DNS label.
fn label(value: &str) -> Result<String, String> {
    let inner =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    let good = (1..=63).contains(&value.len())
        && value.chars().all(inner)
        && !value.starts_with('-')
        && !value.ends_with('-');
    if good {
        Ok(value.to_owned())
    } else {
        Err("a name has 1 to 63 lower-case letters, digits and dashes between them".to_owned())
    }
}

/// Labels with dots between them.
fn object_name(value: &str) -> Result<String, String> {
    value
        .split('.')
        .try_for_each(|part| label(part).map(drop))?;
    Ok(value.to_owned())
}

fn architecture(value: &str) -> Result<Arch, String> {
    let known = || {
        Arch::ALL
            .iter()
            .map(|arch| arch.as_str())
            .collect::<Vec<_>>()
            .join(" and ")
    };
    Arch::ALL
        .iter()
        .copied()
        .find(|arch| arch.as_str() == value)
        .ok_or_else(|| format!("the architectures are {}", known()))
}

fn variable(value: &str) -> Result<EnvVar, String> {
    let (name, value) = value.split_once('=').ok_or("there is no = in it")?;
    let good = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if !good {
        return Err(format!(
            "{name:?} is no name of a variable: letters, digits and _"
        ));
    }
    Ok(EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    })
}

fn resources(value: &str) -> Result<ResourceRequirements, String> {
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(value).map_err(|error| format!("no JSON object: {error}"))?;
    if let Some(unknown) = object
        .keys()
        .find(|key| !matches!(key.as_str(), "requests" | "limits" | "claims"))
    {
        return Err(format!(
            "{unknown:?} is none of requests, limits and claims"
        ));
    }
    serde_json::from_value(serde_json::Value::Object(object)).map_err(|error| error.to_string())
}

fn duration(value: &str) -> Result<Duration, String> {
    let duration: SignedDuration = value
        .parse()
        .map_err(|error| format!("{error}; write 90s, 10m or 1h30m"))?;
    Duration::try_from(duration).map_err(|_| "a duration is not below zero".to_owned())
}

#[cfg(test)]
mod tests;
