//! The program of a process, looked up as a shell does, in the container's root and as its user.

use std::collections::HashMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Process;
use rustix::fs::{Access, access};

use crate::error::ProgramFault;

/// The `PATH` of a container without one, as containerd sets it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program and its arguments, as execve takes them.
pub(super) struct Program {
    pub(super) file: CString,
    pub(super) arguments: Vec<CString>,
}

impl Program {
    /// Finds the program of `process`. Runs in the container.
    pub(super) fn find(process: &Process) -> Result<Self, ProgramFault> {
        let arguments = process.args().as_deref().unwrap_or_default();
        let Some(name) = arguments.first().filter(|name| !name.is_empty()) else {
            return Err(ProgramFault::NotFound(
                "the process has no program to run: its arguments are empty".to_owned(),
            ));
        };
        let file = locate(name, path_of(process), look)?;
        let arguments = arguments
            .iter()
            .map(|argument| text(argument.as_bytes()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            file: text(file.as_os_str().as_encoded_bytes())?,
            arguments,
        })
    }
}

/// Returns the `PATH`. Of two variables with one name the program gets the last ([`environment`]).
fn path_of(process: &Process) -> &str {
    let variables = process.env().as_deref().unwrap_or_default();
    variables
        .iter()
        .rev()
        .find_map(|variable| variable.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH)
}

fn text(bytes: &[u8]) -> Result<CString, ProgramFault> {
    CString::new(bytes).map_err(|_| {
        ProgramFault::NotExecutable("an argument or a variable holds a zero byte".to_owned())
    })
}

/// The kind of file at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    NotExecutable,
    Program,
}

fn look(path: &Path) -> Found {
    match path.metadata() {
        Err(_) => Found::Nothing,
        Ok(metadata) if metadata.is_file() && access(path, Access::EXEC_OK).is_ok() => {
            Found::Program
        }
        Ok(_) => Found::NotExecutable,
    }
}

/// Returns the file of the program `name`: a path, if it has a slash; else it is looked up in the
/// folders of `path`.
fn locate(name: &str, path: &str, look: impl Fn(&Path) -> Found) -> Result<PathBuf, ProgramFault> {
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![name.into()]
    } else {
        path.split(':')
            .map(|folder| Path::new(if folder.is_empty() { "." } else { folder }).join(name))
            .collect()
    };
    let mut refused = None;
    for candidate in candidates {
        match look(&candidate) {
            Found::Program => return Ok(candidate),
            Found::NotExecutable => refused = refused.or(Some(candidate)),
            Found::Nothing => {}
        }
    }
    Err(match refused {
        Some(file) => ProgramFault::NotExecutable(format!(
            "cannot execute {:?}: permission denied",
            file.display().to_string()
        )),
        None if name.contains('/') => ProgramFault::NotFound(format!(
            "cannot execute {name:?}: no such file in the container"
        )),
        None => ProgramFault::NotFound(format!(
            "cannot execute {name:?}: no such program in the container's PATH ({path})"
        )),
    })
}

/// Returns the environment for execve: the variables of `process` in their order, with the values
/// that libcontainer chose, then those that it added. HOME is always set, as by runc: libcontainer
/// adds it only for users in the container's `/etc/passwd`.
pub(super) fn environment(
    process: &Process,
    mut values: HashMap<String, String>,
) -> Result<Vec<CString>, ProgramFault> {
    let mut variables = Vec::new();
    for variable in process.env().iter().flatten() {
        // libcontainer keeps the last value of a name that is there twice; it goes to the first
        // place.
        if let Some((name, value)) = variable
            .split_once('=')
            .and_then(|(name, _)| values.remove_entry(name))
        {
            variables.push(format!("{name}={value}"));
        }
    }
    if !process
        .env()
        .iter()
        .flatten()
        .any(|variable| variable.starts_with("HOME="))
    {
        values
            .entry("HOME".to_owned())
            .or_insert_with(|| "/".to_owned());
    }
    variables.extend(
        values
            .into_iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    variables
        .iter()
        .map(|variable| text(variable.as_bytes()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, path: &str) -> Result<PathBuf, ProgramFault> {
        locate(name, path, |path| match path.to_str().unwrap() {
            "/bin/tool" | "./tool" | "/opt/tool" => Found::Program,
            "/usr/bin/tool" | "/etc/passwd" => Found::NotExecutable,
            _ => Found::Nothing,
        })
    }

    #[test]
    fn name_with_a_slash_is_a_path() {
        assert_eq!(found("/opt/tool", "/bin"), Ok("/opt/tool".into()));
        assert!(matches!(
            found("/opt/none", "/bin"),
            Err(ProgramFault::NotFound(_))
        ));
        assert!(matches!(
            found("/etc/passwd", "/bin"),
            Err(ProgramFault::NotExecutable(_))
        ));
    }

    #[test]
    fn name_without_a_slash_is_looked_up_in_order_past_files_that_cannot_be_executed() {
        assert_eq!(found("tool", "/usr/bin:/bin"), Ok("/bin/tool".into()));
        assert_eq!(found("tool", "/nowhere:"), Ok("./tool".into()));
        assert!(matches!(
            found("tool", "/usr/bin"),
            Err(ProgramFault::NotExecutable(_))
        ));
        let error = found("tool", "/nowhere").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"cannot execute "tool": no such program in the container's PATH (/nowhere)"#
        );
    }

    #[test]
    fn program_is_looked_up_in_the_path_that_it_gets() {
        let process: Process =
            serde_json::from_str(r#"{"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/first", "A=1", "PATH=/last"]}"#).unwrap();
        assert_eq!(path_of(&process), "/last");
        let values = [("A", "1"), ("PATH", "/last")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            environment(&process, values.into()).unwrap()[0],
            CString::from(c"PATH=/last")
        );
    }

    #[test]
    fn process_without_arguments_has_no_program() {
        let process: Process =
            serde_json::from_str(r#"{"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": []}"#)
                .unwrap();
        assert!(matches!(
            Program::find(&process),
            Err(ProgramFault::NotFound(_))
        ));
    }

    #[test]
    fn environment_keeps_its_order_and_gets_the_added_variables() {
        let process: Process = serde_json::from_str(
            r#"{"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["B=1", "A=2", "B=3", "odd"]}"#,
        )
        .unwrap();
        let values = [("A", "2"), ("B", "3"), ("HOME", "/root")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = |values| environment(&process, values).unwrap();
        assert_eq!(
            environment(values.clone().into()),
            [c"B=3", c"A=2", c"HOME=/root"].map(CString::from)
        );
        assert_eq!(
            environment(values.into_iter().take(2).collect()).last(),
            Some(&CString::from(c"HOME=/"))
        );
    }
}
