//! Texts of ours in other programs' files. Each is between two marks, by which it is found and
//! removed again.
//!
//! A block begins with a line break of its own and ends with one. So it can follow a text without a
//! last line break, or another block, and removing it restores the former text in whatever order
//! blocks come and go. Its last mark has a digest of the content, which shows whether
//! the block was edited.

use std::fmt::Write as _;
use std::ops::Range;

use runtime_options::Sandboxer;
use sha2::{Digest as _, Sha256};

use super::error::ConfigError;
use super::schema::Schema;
use super::version::Version;
use super::{Handler, RUNTIME_TYPE, unmarked};

/// The content of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject<'a> {
    /// A handler of ours.
    Handler(&'a str),
    /// runc with containerd's defaults. containerd 1.x uses them if a main file has no handler; the
    /// first handler in the file replaces them.
    DefaultRuntime,
}

/// The name of containerd's own default handler.
const RUNC: &str = "runc";
const MARK: &str = "wasmedge-runtime:";
/// Hexadecimal digits of a block's digest. It detects edits, not forgery.
const DIGEST_DIGITS: usize = 12;

impl Subject<'_> {
    fn label(self) -> String {
        match self {
            Self::Handler(name) => format!("handler {name}"),
            Self::DefaultRuntime => "default handler, named because other handlers are".to_owned(),
        }
    }

    fn begin(self) -> String {
        format!(
            "# >>> {MARK} {} (written by the node installer, removed on uninstall)",
            self.label()
        )
    }

    fn end(self) -> String {
        format!("# <<< {MARK} {}, sha256 ", self.label())
    }
}

/// Returns a handler's table. It has an options table only for a runtime that reads no options
/// file, with `SystemdCgroup` and the keys that are not at their default: an older runtime refuses
/// keys that it does not know.
pub(super) fn handler_body(handler: &Handler, schema: Schema, containerd: Version) -> String {
    let Handler {
        name,
        launcher,
        systemd_cgroup: _,
        settings,
    } = handler;
    let table = table_name(schema, name);
    let (runtime, launcher) = (quoted(runtime_type(handler, containerd)), quoted(launcher));
    let annotations = quoted(super::ANNOTATIONS);
    let mut body = format!(
        "[{table}]\n  runtime_type = {runtime}\n  runtime_path = {launcher}\n  pod_annotations = \
         [{annotations}]\n  \
         container_annotations = [{annotations}]\n"
    );
    for (key, value) in sandboxer_keys(settings.sandboxer) {
        // Writing to a String cannot fail.
        let _ = writeln!(body, "  {key} = {value}");
    }
    // containerd 2.4 cannot create a user namespace for a handler that has this table.
    if let Some(options) = handler.options_table() {
        let _ = writeln!(body, "  [{table}.options]");
        for (key, value) in options {
            let _ = writeln!(body, "    {key} = {value}");
        }
    }
    body
}

/// Returns the runtime type of a handler. containerd 2.4 finds the launcher of a sandbox that the
/// runtime makes by the type only, and 1.6 does so for every sandbox: there the launcher's path is
/// the type.
pub(super) fn runtime_type(handler: &Handler, containerd: Version) -> &str {
    match handler.settings.sandboxer {
        Sandboxer::PodSandbox if containerd.major >= 2 => RUNTIME_TYPE,
        Sandboxer::PodSandbox | Sandboxer::Shim => &handler.launcher,
    }
}

/// Returns containerd's keys of a handler by which the runtime makes sandboxes. The pause image,
/// which is not used then, need not be pulled.
pub(super) fn sandboxer_keys(sandboxer: Sandboxer) -> &'static [(&'static str, &'static str)] {
    match sandboxer {
        Sandboxer::PodSandbox => &[],
        Sandboxer::Shim => &[
            ("sandboxer", "\"shim\""),
            ("disable_pause_image_pull", "true"),
        ],
    }
}

/// Returns runc's table with every default of containerd 1.x; 1.7 has one more than 1.6.
pub(super) fn default_runtime_body(schema: Schema, containerd: Version) -> String {
    let table = table_name(schema, RUNC);
    let mode = if containerd.minor >= 7 {
        "  sandbox_mode = \"podsandbox\"\n"
    } else {
        ""
    };
    let mut body = format!(
        "[{table}]\n  runtime_type = \"io.containerd.runc.v2\"\n{mode}  [{table}.options]\n"
    );
    for text in [
        "BinaryName",
        "CriuImagePath",
        "CriuPath",
        "CriuWorkPath",
        "Root",
        "ShimCgroup",
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(body, "    {text} = \"\"");
    }
    for number in ["IoGid", "IoUid"] {
        let _ = writeln!(body, "    {number} = 0");
    }
    for truth in ["NoNewKeyring", "NoPivotRoot", "SystemdCgroup"] {
        let _ = writeln!(body, "    {truth} = false");
    }
    body
}

fn table_name(schema: Schema, handler: &str) -> String {
    match schema {
        Schema::One => format!("plugins.cri.containerd.runtimes.{handler}"),
        _ => format!(
            "plugins.\"{}\".containerd.runtimes.{handler}",
            schema.plugin()
        ),
    }
}

/// Returns `text` as a TOML string.
pub(super) fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

/// Returns `text` with a block of this body, which replaces an existing one or is appended.
pub(super) fn put(
    path: &str,
    text: &str,
    subject: Subject<'_>,
    body: &str,
) -> Result<String, ConfigError> {
    let block = format!(
        "{}\n{body}{}{}\n",
        subject.begin(),
        subject.end(),
        digest(body)
    );
    match find(text, subject) {
        Some(found) if found.is_intact(text) => {
            let mut text = text.to_owned();
            text.replace_range(found.lines, &block);
            Ok(text)
        }
        // The block may have lines that another program or a user added.
        Some(_) => Ok(format!("{}\n{block}", take(path, text, subject)?)),
        None => Ok(format!("{text}\n{block}")),
    }
}

/// Returns `text` without the block. From an edited block only our parts are removed: the marks and
/// a handler's table.
pub(super) fn take(path: &str, text: &str, subject: Subject<'_>) -> Result<String, ConfigError> {
    match find(text, subject) {
        None => Ok(text.to_owned()),
        Some(found) if found.is_intact(text) => {
            let mut kept = text.to_owned();
            kept.replace_range(found.with_line_break(text), "");
            Ok(kept)
        }
        Some(found) => {
            let body = &text[found.body.clone()];
            let rest = format!(
                "{}{body}{}",
                &text[..found.lines.start],
                &text[found.lines.end..]
            );
            match subject {
                Subject::Handler(name) => unmarked::without(path, &rest, name, |_| true),
                // runc's values were changed on purpose.
                Subject::DefaultRuntime => Ok(rest),
            }
        }
    }
}

/// Returns whether `text` has a block of this subject.
pub(super) fn has(text: &str, subject: Subject<'_>) -> bool {
    find(text, subject).is_some()
}

/// Returns whether `text` has a block of any handler.
pub(super) fn has_handlers(text: &str) -> bool {
    let begin = format!("# >>> {MARK} handler ");
    text.lines().any(|line| line.starts_with(&begin))
}

/// The position of a block: whole lines, with the last line break.
struct Found {
    lines: Range<usize>,
    body: Range<usize>,
    digest: String,
}

impl Found {
    fn is_intact(&self, text: &str) -> bool {
        digest(&text[self.body.clone()]) == self.digest
    }

    /// Includes the line break that was added before the block, unless lines around it need it now.
    fn with_line_break(&self, text: &str) -> Range<usize> {
        let (before, after) = (&text[..self.lines.start], &text[self.lines.end..]);
        let start = match before.strip_suffix('\n') {
            Some(earlier)
                if earlier.is_empty()
                    || earlier.ends_with('\n')
                    || after.is_empty()
                    || after.starts_with('\n') =>
            {
                earlier.len()
            }
            _ => before.len(),
        };
        start..self.lines.end
    }
}

fn find(text: &str, subject: Subject<'_>) -> Option<Found> {
    let (begin, end) = (subject.begin(), subject.end());
    let mut offset = 0;
    let mut start = None;
    for line in text.split_inclusive('\n') {
        let (here, next) = (offset, offset + line.len());
        offset = next;
        match start {
            None if line.trim_end() == begin => start = Some((here, next)),
            Some((first, inside)) if line.starts_with(&end) => {
                let digest = line[end.len()..].trim_end().to_owned();
                return Some(Found {
                    lines: first..next,
                    body: inside..here,
                    digest,
                });
            }
            _ => {}
        }
    }
    None
}

fn digest(body: &str) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(body.as_bytes())
        .iter()
        .take(DIGEST_DIGITS / 2)
    {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests;
