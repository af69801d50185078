//! containerd's command line for shims, in the form of Go's `flag` package: `-name value`,
//! `-name=value`, `--name …`, switches without a value, then the verb.

use std::path::PathBuf;

use anyhow::{Result, bail};
use shim_protocol::identifier;

/// The requested operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Start,
    Delete,
    Info,
    Version,
}

/// The parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) verb: Verb,
    /// containerd's namespace.
    pub(crate) namespace: String,
    /// The container's id.
    pub(crate) id: String,
    /// containerd's own socket.
    pub(crate) address: String,
    /// The container's bundle; by default the working directory, in which containerd runs `start`.
    pub(crate) bundle: PathBuf,
    /// Whether to log debug messages.
    pub(crate) debug: bool,
}

impl Flags {
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Self> {
        let mut flags = Self {
            verb: Verb::Version,
            namespace: String::new(),
            id: String::new(),
            address: String::new(),
            bundle: PathBuf::from("."),
            debug: false,
        };
        let mut verb = None;
        let mut args = args.peekable();
        while let Some(arg) = args.next() {
            let Some(name) = arg
                .strip_prefix('-')
                .map(|rest| rest.strip_prefix('-').unwrap_or(rest))
            else {
                verb = verb.or(Some(arg));
                continue;
            };
            let (name, inline) = name
                .split_once('=')
                .map_or((name, None), |(name, value)| (name, Some(value.to_owned())));
            let mut value = || {
                inline
                    .clone()
                    .or_else(|| args.next())
                    .ok_or_else(|| anyhow::anyhow!("-{name} needs a value"))
            };
            match name {
                "namespace" => flags.namespace = value()?,
                "id" => flags.id = value()?,
                "address" => flags.address = value()?,
                "bundle" => flags.bundle = PathBuf::from(value()?),
                // Part of containerd's contract, unused: events go over ttrpc.
                "publish-binary" | "socket" => drop(value()?),
                "debug" => flags.debug = inline.as_deref() != Some("false"),
                "info" => verb = Some("-info".to_owned()),
                "v" | "version" => verb = Some("-v".to_owned()),
                _ => bail!(
                    "unknown flag -{name}: containerd's shim flags are -namespace, -id, -address, \
                     -bundle, -publish-binary, -debug, -info and -v"
                ),
            }
        }
        flags.verb = match verb.as_deref() {
            Some("start") => Verb::Start,
            Some("delete") => Verb::Delete,
            Some("-info") => Verb::Info,
            Some("-v") => Verb::Version,
            Some(other) => bail!("unknown verb {other:?}: the verbs are start and delete"),
            None => bail!(
                "no verb: this program is started by containerd, with start or delete; -v prints \
                 its version"
            ),
        };
        if matches!(flags.verb, Verb::Start | Verb::Delete) {
            if flags.namespace.is_empty() || flags.id.is_empty() {
                bail!("start and delete need -namespace and -id");
            }
            identifier::validate("namespace", &flags.namespace)?;
            identifier::validate("container id", &flags.id)?;
        }
        Ok(flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags> {
        Flags::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn command_lines_of_containerd_1_and_2_are_parsed() {
        let line = "-namespace k8s.io -address /run/containerd/containerd.sock -publish-binary \
                    /usr/bin/containerd -id abc -debug start";
        let flags = parse(line).unwrap();
        assert_eq!(
            (
                flags.verb,
                flags.namespace.as_str(),
                flags.id.as_str(),
                flags.debug
            ),
            (Verb::Start, "k8s.io", "abc", true)
        );
        let flags = parse("-namespace=k8s.io -address /s -id abc -bundle /b delete").unwrap();
        assert_eq!(
            (flags.verb, flags.address.as_str(), flags.debug),
            (Verb::Delete, "/s", false)
        );
        assert_eq!(flags.bundle, PathBuf::from("/b"));
        assert_eq!(parse("-info").unwrap().verb, Verb::Info);
        assert_eq!(parse("--v").unwrap().verb, Verb::Version);
    }

    #[test]
    fn invalid_command_lines_are_refused_with_the_cause() {
        for (line, words) in [
            ("", "no verb"),
            ("-namespace", "needs a value"),
            ("-colour red start", "-colour"),
            ("dance", "dance"),
            ("-id x start", "-namespace"),
            (
                "-namespace k8s.io -id ../../x start",
                "not a valid container id",
            ),
            ("-namespace .. -id x delete", "not a valid namespace"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
