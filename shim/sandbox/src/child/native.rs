//! A Linux program of the container's root, executed in place of a guest.
#![expect(
    clippy::print_stderr,
    reason = "standard error is the program's, the only place where its user looks"
)]

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Access, FileType, access, stat};

use super::messages::NativeProgram;

/// The exit code of a shell for a program that it cannot execute.
const NOT_EXECUTABLE: u8 = 126;
/// The folders in which a program without a slash is looked up if its environment has no `PATH`:
/// the usual ones of images.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that exists and may be executed.
pub(super) struct Found {
    file: PathBuf,
    program: NativeProgram,
}

/// Looks the program up in the container, as the process's new user.
pub(super) fn find(program: NativeProgram) -> Result<Found, String> {
    let name = program
        .args
        .first()
        .ok_or("there is no program to execute: the arguments are empty")?;
    rustix::process::chdir(&program.cwd).map_err(|error| {
        format!(
            "enter the working folder {}: {error}",
            program.cwd.display()
        )
    })?;
    let file = locate(name, &program.env)?;
    Ok(Found { file, program })
}

fn locate(name: &str, env: &[String]) -> Result<PathBuf, String> {
    if name.contains('/') {
        let file = PathBuf::from(name);
        return check(&file)
            .map(|()| file)
            .map_err(|why| format!("execute {name}: {why}"));
    }
    // Of two variables with one name the program gets the last.
    let path = env
        .iter()
        .rev()
        .find_map(|variable| variable.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH);
    let mut refusal = None;
    for folder in path.split(':') {
        // An empty one is the working folder, as for execvp(3).
        let file = Path::new(if folder.is_empty() { "." } else { folder }).join(name);
        match check(&file) {
            Ok(()) => return Ok(file),
            Err(why) if stat(&file).is_ok() => {
                refusal = refusal.or(Some(format!("execute {}: {why}", file.display())));
            }
            Err(_) => {}
        }
    }
    Err(refusal.unwrap_or_else(|| format!("execute {name}: there is no such program in {path}")))
}

fn check(file: &Path) -> Result<(), String> {
    let found = stat(file).map_err(|error| error.to_string())?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => access(file, Access::EXEC_OK).map_err(|error| error.to_string()),
        FileType::Directory => Err("it is a folder".to_owned()),
        _ => Err("it is not a regular file".to_owned()),
    }
}

/// Executes the program. Returns an exit code if the kernel refuses it: a missing interpreter or a
/// wrong architecture.
pub(super) fn execute(found: Found) -> u8 {
    let Found {
        file,
        program: NativeProgram { args, env, .. },
    } = found;
    let mut command = Command::new(&file);
    command.arg0(&args[0]).args(&args[1..]).env_clear();
    command.envs(
        env.iter()
            .map(|variable| variable.split_once('=').unwrap_or((variable, ""))),
    );
    let error = command.exec();
    eprintln!("cannot execute {}: {error}", file.display());
    NOT_EXECUTABLE
}
