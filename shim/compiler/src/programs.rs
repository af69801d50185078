//! The helper's executables, and the libraries that they run on.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Backend;

/// Both executables, and the loader that starts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// The dynamic loader.
    pub loader: PathBuf,
    /// The program with LLVM.
    pub wasmedge: Program,
    /// The program with Cranelift.
    pub wasmtime: Program,
}

/// An executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its file.
    pub executable: PathBuf,
    /// The folders of its libraries, the first first.
    pub libraries: Vec<PathBuf>,
}

impl Programs {
    /// Returns those of the runtime bundle whose loader this is: `<bundle>/lib/<name>`. None if the
    /// path has no such form.
    pub fn of_bundle(loader: &Path) -> Option<Self> {
        let lib = loader.parent()?;
        let root = lib.parent()?;
        let program = |name: &str, libraries: Vec<PathBuf>| Program {
            executable: root.join("bin").join(name),
            libraries,
        };
        Some(Self {
            loader: loader.to_owned(),
            wasmedge: program(
                "wasmedge-compile",
                vec![root.join("compile"), lib.to_owned()],
            ),
            wasmtime: program("wasmtime-compile", vec![lib.to_owned()]),
        })
    }

    fn of(&self, backend: Backend) -> &Program {
        match backend {
            Backend::WasmEdge(_) => &self.wasmedge,
            Backend::Wasmtime => &self.wasmtime,
        }
    }

    /// Returns the command line that starts the program for `backend`.
    pub(crate) fn command_line(&self, backend: Backend) -> Vec<PathBuf> {
        let program = self.of(backend);
        let folders: Vec<OsString> = program.libraries.iter().map(OsString::from).collect();
        vec![
            self.loader.clone(),
            // The node's cache of libraries is not the bundle's.
            PathBuf::from("--inhibit-cache"),
            PathBuf::from("--library-path"),
            PathBuf::from(folders.join(":".as_ref())),
            program.executable.clone(),
        ]
    }
}

/// Returns the command of a command line, without a variable in its environment.
pub(crate) fn command(line: &[PathBuf]) -> Option<Command> {
    let (program, arguments) = line.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    Some(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tier;

    #[test]
    fn program_runs_on_the_loader_and_the_libraries_of_its_bundle() {
        let programs = Programs::of_bundle(Path::new("/opt/w/0.1/lib/ld.so")).unwrap();
        let line = |backend| {
            let line = programs.command_line(backend);
            let words: Vec<_> = line.iter().map(|word| word.to_str().unwrap()).collect();
            words.join(" ")
        };
        assert_eq!(
            line(Backend::WasmEdge(Tier::Baseline)),
            "/opt/w/0.1/lib/ld.so --inhibit-cache --library-path \
             /opt/w/0.1/compile:/opt/w/0.1/lib /opt/w/0.1/bin/wasmedge-compile"
        );
        assert_eq!(
            line(Backend::Wasmtime),
            "/opt/w/0.1/lib/ld.so --inhibit-cache --library-path /opt/w/0.1/lib \
             /opt/w/0.1/bin/wasmtime-compile"
        );
        assert_eq!(Programs::of_bundle(Path::new("ld.so")), None);
    }
}
