//! The host of the tests: its compiler, drafts, requests.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a process that acts as a host reports to the test"
)]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use container_cgroup::Hierarchies;
use guest_compiler::protocol::HELPER_USER;
use guest_compiler::{
    ARTIFACT, Backend, CompileError, CompileRequest, Compiler, Compiling, Failed, Form, Limits,
    Outcome, Program, Programs, Tier, Usage,
};
use process_forker::Forkers;
use runtime_options::CgroupDriver;
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::acts;

/// First argument of a process that acts as a host that is killed.
pub(crate) const ACT: &str = "act-as-host";

/// Limits that no compilation here reaches.
pub(crate) const LIMITS: Limits = Limits {
    cpu: Duration::from_mins(5),
    memory: 1 << 30,
    output: 64 << 20,
};

static FORKERS: OnceLock<Arc<Forkers>> = OnceLock::new();

/// Starts the forkers; this process has one thread.
pub(crate) fn start() -> Result<()> {
    let _ = FORKERS.set(Arc::new(Forkers::start()?));
    Ok(())
}

/// Runs a host that holds a helper until it is killed, if this process is one.
pub(crate) fn act() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != ACT {
        return None;
    }
    let hold = || -> Result<()> {
        start()?;
        let job = NewJob::of(&acts::module("wait"))?.acting();
        let (compiling, _draft) = job.start()?;
        println!("{}", compiling.pid());
        std::io::stdout().flush()?;
        std::io::stdin().read_to_end(&mut Vec::new())?;
        Ok(())
    };
    Some(match hold() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    })
}

/// The programs under test, on the libraries of the bundle.
pub(crate) fn programs() -> Result<Programs> {
    let run = Path::new(env!("WASMEDGE_RUN_DIR"))
        .canonicalize()
        .context("run `cargo xtask setup` once")?;
    let compile = run.with_file_name("compile");
    Ok(Programs {
        loader: Path::new(env!("WASMEDGE_LOADER")).canonicalize()?,
        wasmedge: Program {
            executable: env!("CARGO_BIN_EXE_wasmedge-compile").into(),
            libraries: vec![compile, run.clone()],
        },
        wasmtime: Program {
            executable: env!("CARGO_BIN_EXE_wasmtime-compile").into(),
            libraries: vec![run],
        },
    })
}

/// A compilation to start.
pub(crate) struct NewJob {
    pub(crate) backend: Backend,
    pub(crate) module: File,
    pub(crate) form: Form,
    pub(crate) sha256: [u8; 32],
    pub(crate) copy_to: Option<OwnedFd>,
    pub(crate) limits: Limits,
    pub(crate) programs: Programs,
}

/// Gives a folder to the helper's user, and returns it as a mount that is attached nowhere.
fn given_away(folder: &Path) -> Result<OwnedFd> {
    std::os::unix::fs::chown(folder, Some(HELPER_USER), Some(HELPER_USER))?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(CWD, folder, clone)?)
}

impl NewJob {
    /// Of a module with these bytes, by WasmEdge's baseline compiler.
    pub(crate) fn of(module: &[u8]) -> Result<Self> {
        let mut file = tempfile::tempfile()?;
        file.write_all(module)?;
        Ok(Self {
            backend: Backend::WasmEdge(Tier::Baseline),
            module: file,
            form: Form::Binary,
            sha256: Sha256::digest(module).into(),
            copy_to: None,
            limits: LIMITS,
            programs: programs()?,
        })
    }

    /// By this program in place of a compiler.
    pub(crate) fn acting(mut self) -> Self {
        self.programs.wasmedge.executable = acts::program();
        self
    }

    pub(crate) fn start(self) -> Result<(Compiling, TempDir)> {
        let forkers = FORKERS.get().context("it is started first")?;
        let draft = tempfile::tempdir()?;
        let request = CompileRequest {
            backend: self.backend,
            build: "a build".to_owned(),
            module: self.module.into(),
            form: self.form,
            origin: "app.wasm".to_owned(),
            sha256: self.sha256,
            max_module_bytes: 16 << 20,
            copy_to: self.copy_to,
            draft: given_away(draft.path())?,
            limits: self.limits,
            cgroup_driver: CgroupDriver::Cgroupfs,
        };
        let compiler = Compiler::new(Arc::clone(forkers), Hierarchies::find()?, self.programs);
        Ok((compiler.start(request)?, draft))
    }

    /// Compiles it; returns the compiled code.
    pub(crate) fn code(self) -> Result<(Vec<u8>, Usage)> {
        let (compiling, draft) = self.start()?;
        match compiling.wait()? {
            Outcome::Compiled(usage) => {
                let files = fs::read_dir(draft.path())?.count();
                anyhow::ensure!(files == 1, "the draft has {files} files");
                Ok((fs::read(draft.path().join(ARTIFACT))?, usage))
            }
            Outcome::Failed(failed) => bail!("{failed:?}"),
        }
    }

    /// Returns its failure.
    pub(crate) fn failure(self) -> Result<Failed> {
        let (compiling, _draft) = self.start()?;
        match compiling.wait()? {
            Outcome::Compiled(usage) => bail!("it was compiled: {usage:?}"),
            Outcome::Failed(failed) => Ok(failed),
        }
    }

    /// Returns the failure of the node.
    pub(crate) fn error(self) -> Result<CompileError> {
        let (compiling, _draft) = self.start()?;
        compiling.wait().err().context("the node did not fail")
    }
}

/// The folders of cgroups of this host's helpers.
pub(crate) fn cgroups(host: u32) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for hierarchy in fs::read_dir("/sys/fs/cgroup")? {
        let parent = hierarchy?.path().join("wasmedge-runtime");
        for entry in fs::read_dir(parent).into_iter().flatten() {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // `compile-`, the pid namespace, the host, and a number.
            if name.starts_with("compile-") && name.split('-').nth(2) == Some(&host.to_string()) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// Fails if a helper of this host left a cgroup.
pub(crate) fn nothing_is_left() -> Result<()> {
    let left = cgroups(std::process::id())?;
    anyhow::ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
