//! The command line. Every option of `run` can also be set by an environment variable.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use k8s_openapi::api::core::v1::{EnvVar, ResourceRequirements};
use k8s_openapi::jiff::SignedDuration;

use crate::crd::Arch;

/// Installs the WasmEdge runtime on the nodes of a cluster, a few at a time, and lets pods be
/// scheduled only where it works.
#[derive(Debug, Parser)]
#[command(name = "wasmedge-operator", version, arg_required_else_help = true)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
    /// The options of logging.
    #[command(flatten)]
    pub log: Log,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the operator.
    Run(Box<Settings>),
    /// Manages the definitions of the API: WasmRuntime and WasmRuntimeNode.
    #[command(subcommand)]
    Crds(Crds),
    /// Manages the runtimes of the cluster.
    #[command(subcommand)]
    Runtimes(Runtimes),
}

/// The subcommands of `crds`.
#[derive(Debug, Subcommand)]
pub enum Crds {
    /// Applies the definitions to the cluster, and waits until they are served.
    Apply,
    /// Prints them as JSON, for `kubectl apply --server-side -f -`.
    Print,
}

/// The subcommands of `runtimes`.
#[derive(Debug, Subcommand)]
pub enum Runtimes {
    /// Deletes every WasmRuntime, and waits until every node is clean.
    Remove(Remove),
}

/// The options of `runtimes remove`.
#[derive(Debug, Args)]
pub struct Remove {
    /// How long to wait for the nodes: 90s, 10m, 1h.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub timeout: Duration,
}

/// The options of logging.
#[derive(Debug, Clone, Copy, Args)]
pub struct Log {
    /// Format of log messages.
    #[arg(
        long = "log-format",
        global = true,
        env = "WASMEDGE_OPERATOR_LOG_FORMAT",
        value_enum,
        default_value_t = LogFormat::Text
    )]
    pub format: LogFormat,
    /// Lowest severity of the messages that are logged.
    #[arg(
        long = "log-level",
        global = true,
        env = "WASMEDGE_OPERATOR_LOG_LEVEL",
        value_enum,
        default_value_t = LogLevel::Info
    )]
    pub level: LogLevel,
}

/// A format of log messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Plain text.
    Text,
}

/// A severity of log messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Failures that need a user.
    Error,
    /// Failures that are retried.
    Warn,
    /// Actions of the operator.
    Info,
    /// Reasons for these actions.
    Debug,
    /// Everything, including libraries.
    Trace,
}

/// The options of `run`.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Namespace of the operator, of its installers and of the leader election's Lease.
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "WASMEDGE_OPERATOR_NAMESPACE",
        value_parser = label
    )]
    pub namespace: String,
    /// The options of installers.
    #[command(flatten)]
    pub installer: Installer,
    /// Address that serves /livez, /readyz and /metrics.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "WASMEDGE_OPERATOR_LISTEN",
        default_value = "0.0.0.0:8080"
    )]
    pub listen: SocketAddr,
    /// Unique name of this replica: its pod's name.
    #[arg(long, value_name = "POD", env = "WASMEDGE_OPERATOR_IDENTITY", value_parser = text)]
    pub identity: String,
    /// Whether replicas elect a leader; without leader election there may be only one replica.
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
    /// Returns the options of installers.
    pub fn installer(&self) -> &Installer {
        &self.installer
    }
}

/// The options of installers.
#[derive(Debug, Clone, Args)]
pub struct Installer {
    /// Image of installers. It also contains the runtime.
    #[arg(
        id = "installer-image",
        long = "installer-image",
        value_name = "REF",
        env = "WASMEDGE_OPERATOR_INSTALLER_IMAGE",
        value_parser = text
    )]
    pub image: String,
    /// Architecture of the image; repeatable, or separated by commas. Nodes of other architectures
    /// are unsupported.
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
    /// Pull policy of the image.
    #[arg(
        id = "installer-image-pull-policy",
        long = "installer-image-pull-policy",
        value_name = "POLICY",
        env = "WASMEDGE_OPERATOR_INSTALLER_IMAGE_PULL_POLICY",
        value_enum,
        default_value_t = PullPolicy::IfNotPresent
    )]
    pub pull_policy: PullPolicy,
    /// Pull secret for the image, in the namespace; repeatable, or separated by commas. Installers
    /// use the first one to pull runtimes that are OCI artifacts.
    #[arg(
        id = "installer-image-pull-secret",
        long = "installer-image-pull-secret",
        value_name = "NAME",
        env = "WASMEDGE_OPERATOR_INSTALLER_IMAGE_PULL_SECRET",
        value_delimiter = ',',
        value_parser = object_name
    )]
    pub pull_secrets: Vec<String>,
    /// Service account of installers' pods. Its token is not mounted.
    #[arg(
        id = "installer-service-account",
        long = "installer-service-account",
        value_name = "NAME",
        env = "WASMEDGE_OPERATOR_INSTALLER_SERVICE_ACCOUNT",
        default_value = "default",
        value_parser = object_name
    )]
    pub service_account: String,
    /// Environment variable of installers, such as a proxy; repeatable, or one per line.
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

/// The pull policy of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum PullPolicy {
    /// Pull at each start.
    Always,
    /// Pull if the image is not on the node.
    IfNotPresent,
    /// Never pull: the image is on the node already.
    Never,
}

impl PullPolicy {
    /// Returns the value in a pod's spec.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// Returns the command line as a value, for the generated reference.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

fn text(value: &str) -> Result<String, String> {
    match value {
        "" => Err("must not be empty".to_owned()),
        value if value.chars().any(char::is_whitespace) => {
            Err("must not contain spaces".to_owned())
        }
        value => Ok(value.to_owned()),
    }
}

/// Parses a DNS label.
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
        Err("must have 1 to 63 lower-case letters, digits, and dashes between them".to_owned())
    }
}

/// Parses DNS labels with dots between them.
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
        .ok_or_else(|| format!("must be one of {}", known()))
}

fn variable(value: &str) -> Result<EnvVar, String> {
    let (name, value) = value.split_once('=').ok_or("must contain =")?;
    let good = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if !good {
        return Err(format!(
            "{name:?} is not a valid name of a variable: use letters, digits and _"
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
        serde_json::from_str(value).map_err(|error| format!("not a valid JSON object: {error}"))?;
    if let Some(unknown) = object
        .keys()
        .find(|key| !matches!(key.as_str(), "requests" | "limits" | "claims"))
    {
        return Err(format!(
            "{unknown:?} is not one of requests, limits and claims"
        ));
    }
    serde_json::from_value(serde_json::Value::Object(object)).map_err(|error| error.to_string())
}

fn duration(value: &str) -> Result<Duration, String> {
    let duration: SignedDuration = value
        .parse()
        .map_err(|error| format!("{error}; write 90s, 10m or 1h30m"))?;
    Duration::try_from(duration).map_err(|_| "must not be negative".to_owned())
}

#[cfg(test)]
mod tests;
