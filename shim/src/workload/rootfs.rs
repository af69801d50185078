//! Paths at which the program of a container is looked for, and the result of a look-up.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use guest_sandbox::WireFd;
use guest_sandbox::lookup::{
    Files, LookupReply, MountSource, NotAProgram, PlannedMount, from_root,
};
use oci_spec::runtime::Mount;

use super::kind::Inspection;
use super::{CommandLine, WorkloadError};

/// The search path if the environment has no `PATH`, as containerd sets it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Maximum number of candidates in a message.
const MAX_SHOWN: usize = 8;

/// A file of the container.
#[derive(Debug)]
pub(crate) struct FoundFile {
    /// An `O_PATH` descriptor of it.
    pub(crate) file: OwnedFd,
    /// Its path in the container, symbolic links not resolved.
    pub(crate) path: PathBuf,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// The kind of its content.
    pub(crate) inspection: Inspection,
}

/// Returns the paths that `entrypoint` may mean, in order: relative to the working folder if it has
/// a slash, else along `PATH` and at last in the working folder (images of plain modules set no
/// `PATH`).
///
/// Of two variables with one name the last counts: a Linux program gets that one alone. An empty
/// folder of `PATH` is the working folder, as for execvp(3).
pub(crate) fn candidates(command: CommandLine<'_>, entrypoint: &str) -> Vec<PathBuf> {
    if entrypoint.contains('/') {
        return vec![entrypoint.into()];
    }
    let path = command
        .env
        .iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH);
    let folders = path.split(':').chain([""]);
    let mut seen = HashSet::new();
    folders
        .filter(|folder| seen.insert(*folder))
        .map(|folder| Path::new(folder).join(entrypoint))
        .collect()
}

/// Returns the files of a container that is being created: `root` with the mounts of its spec.
/// Sources may be relative to `bundle`.
pub(crate) fn planned(root: OwnedFd, mounts: &[Mount], bundle: &Path) -> Files {
    let mounts = mounts
        .iter()
        .map(|mount| planned_mount(bundle, mount))
        .collect();
    Files::Planned {
        root: WireFd::new(root),
        mounts,
    }
}

fn planned_mount(bundle: &Path, mount: &Mount) -> PlannedMount {
    let has = |wanted: &str| {
        mount
            .options()
            .iter()
            .flatten()
            .any(|option| option == wanted)
    };
    let is_bind = mount.typ().as_deref() == Some("bind") || has("bind") || has("rbind");
    let source = match mount.source() {
        Some(source) if is_bind => MountSource::Bind {
            path: bundle.join(source),
            recursive: has("rbind"),
        },
        _ => MountSource::Empty,
    };
    PlannedMount {
        destination: mount.destination().clone(),
        source,
    }
}

/// Converts the result of looking for `entrypoint` at `candidates`.
///
/// # Errors
/// If there is no such file, it is not a regular one, or it cannot be read.
pub(crate) fn found(
    command: CommandLine<'_>,
    entrypoint: &str,
    candidates: &[PathBuf],
    reply: LookupReply<Inspection>,
) -> Result<FoundFile, WorkloadError> {
    let place = |candidate: usize| {
        let candidate = candidates
            .get(candidate)
            .map_or(Path::new(entrypoint), PathBuf::as_path);
        // Without `.` and repeated slashes.
        from_root(command.cwd, candidate)
            .components()
            .collect::<PathBuf>()
    };
    match reply {
        LookupReply::Found {
            candidate,
            file,
            size,
            inspection,
        } => Ok(FoundFile {
            file: file.into_inner(),
            path: place(candidate),
            size,
            inspection,
        }),
        LookupReply::NotFound => {
            let mut looked_at: Vec<String> = (0..candidates.len().min(MAX_SHOWN))
                .map(|index| place(index).display().to_string())
                .collect();
            if candidates.len() > MAX_SHOWN {
                looked_at.push(format!("and {} more", candidates.len() - MAX_SHOWN));
            }
            Err(WorkloadError::NotFound {
                entrypoint: entrypoint.to_owned(),
                looked_at: looked_at.join(", "),
            })
        }
        LookupReply::Refused { candidate, what } => Err(WorkloadError::NotAFile {
            path: place(candidate),
            what: description(what),
        }),
        LookupReply::Unreadable { candidate, errno } => Err(WorkloadError::Read {
            origin: place(candidate).display().to_string(),
            source: io::Error::from_raw_os_error(errno),
        }),
        LookupReply::Failed(failure) => Err(WorkloadError::LookUp {
            entrypoint: entrypoint.to_owned(),
            source: failure,
        }),
    }
}

fn description(what: NotAProgram) -> &'static str {
    match what {
        NotAProgram::Folder => "a folder, not a file",
        NotAProgram::Fifo => "a FIFO, not a file",
        NotAProgram::Socket => "a socket, not a file",
        NotAProgram::CharacterDevice => "a character device, not a file",
        NotAProgram::BlockDevice => "a block device, not a file",
        NotAProgram::Unknown => "not a regular file",
        NotAProgram::NotExecutable => "a Linux program without execute permission",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(cwd: &str, env: &[&str], entrypoint: &str) -> Vec<String> {
        let env: Vec<String> = env.iter().map(|entry| (*entry).to_owned()).collect();
        let command = CommandLine {
            args: &[],
            env: &env,
            cwd: Path::new(cwd),
        };
        candidates(command, entrypoint)
            .iter()
            .map(|path| from_root(command.cwd, path).display().to_string())
            .collect()
    }

    #[test]
    fn candidates_of_an_entrypoint_follow_path_and_the_working_folder() {
        for (cwd, env, entrypoint, expected) in [
            ("/", &[][..], "/app.wasm", &["/app.wasm"][..]),
            ("/data", &[], "./app.wasm", &["/data/./app.wasm"]),
            ("/data", &[], "../app.wasm", &["/data/../app.wasm"]),
            (
                "data",
                &["PATH=/bin"],
                "app.wasm",
                &["/bin/app.wasm", "/data/app.wasm"],
            ),
            (
                "/data",
                &["PATH=/bin::/bin:rel"],
                "tool",
                &["/bin/tool", "/data/tool", "/data/rel/tool"],
            ),
            (
                "/data",
                &["PATH=/first", "PATH=/last"],
                "tool",
                &["/last/tool", "/data/tool"],
            ),
            ("/data", &["PATH="], "tool", &["/data/tool"]),
        ] {
            assert_eq!(
                at(cwd, env, entrypoint),
                expected,
                "{entrypoint} in {cwd} with {env:?}"
            );
        }
        let without = at("/data", &["HOME=/"], "tool");
        assert_eq!(
            (&*without[0], &*without[6]),
            ("/usr/local/sbin/tool", "/data/tool")
        );
    }

    #[test]
    fn missing_file_is_reported_with_the_places_that_were_looked_at() {
        let error = |places: usize| {
            let env = [format!(
                "PATH={}",
                (0..places)
                    .map(|place| format!("/bin{place}"))
                    .collect::<Vec<_>>()
                    .join(":")
            )];
            let command = CommandLine {
                args: &[],
                env: &env,
                cwd: Path::new("/data"),
            };
            found(
                command,
                "none.wasm",
                &candidates(command, "none.wasm"),
                LookupReply::NotFound,
            )
            .unwrap_err()
            .to_string()
        };
        assert!(
            error(1).contains("(looked at /bin0/none.wasm, /data/none.wasm)"),
            "{}",
            error(1)
        );
        let long = error(600_000);
        assert!(
            long.contains("no file \"none.wasm\"")
                && long.contains("/bin0/")
                && long.contains("and 599993 more"),
            "{long}"
        );
        assert!(long.len() < 500, "{}", long.len());
    }

    #[test]
    fn irregular_file_is_refused_by_its_type() {
        let command = CommandLine {
            args: &[],
            env: &[],
            cwd: Path::new("/"),
        };
        for (what, text) in [
            (NotAProgram::Folder, "/dev/x in the container is a folder"),
            (NotAProgram::Fifo, "a FIFO"),
            (NotAProgram::Socket, "a socket"),
            (NotAProgram::CharacterDevice, "a character device"),
            (NotAProgram::BlockDevice, "a block device"),
        ] {
            let reply = LookupReply::Refused { candidate: 0, what };
            let error = found(command, "/dev/x", &["/dev/x".into()], reply)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(text) && error.contains("not a file"),
                "{error}"
            );
        }
    }

    #[test]
    fn only_bind_mounts_have_files_of_the_node() {
        let planned = |json: &str| {
            planned_mount(Path::new("/bundle"), &serde_json::from_str(json).unwrap()).source
        };
        let bind = |path: &str, recursive| MountSource::Bind {
            path: path.into(),
            recursive,
        };
        for (json, expected) in [
            (
                r#"{"destination":"/a","type":"bind","source":"/v","options":["rbind","ro"]}"#,
                bind("/v", true),
            ),
            (
                r#"{"destination":"/a","type":"none","source":"/v","options":["rbind"]}"#,
                bind("/v", true),
            ),
            (
                r#"{"destination":"/a","type":"bind","source":"v"}"#,
                bind("/bundle/v", false),
            ),
            (
                r#"{"destination":"/a","type":"tmpfs","source":"tmpfs"}"#,
                MountSource::Empty,
            ),
            (
                r#"{"destination":"/a","type":"proc","source":"proc"}"#,
                MountSource::Empty,
            ),
        ] {
            assert_eq!(planned(json), expected, "{json}");
        }
    }
}
