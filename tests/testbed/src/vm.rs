//! A machine with systemd and cgroup v2, emulated in software: what the machine that runs the tests
//! need not have.
//!
//! * [`kernel`]: Debian's kernel, and what it starts with until it has a disk.
//! * [`disk`]: the root file system, which is the same for every run, and a second disk with what
//!   is tested.
//! * [`report`]: what the program inside tells.
//!
//! QEMU translates every instruction, so that it needs no right and no processor of its own for it;
//! and takes some ten times as long as the machine itself. Nothing is written to the disks: each
//! boot begins with the same ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::host::{self, Need};
use crate::isolated_namespace::{IsolatedNamespace, Lifetime, NamespaceOptions, Network, Service};
use crate::progress::Heartbeat;
use crate::teardown::Run;
use crate::versions::Versions;
use crate::wait;

pub mod disk;
mod kernel;
pub mod report;

pub use disk::Part;
pub use report::{Outcome, Report};

/// The program that emulates.
const EMULATOR: &str = "qemu-system-x86_64";
/// From power on to power off.
const LIMIT: Duration = Duration::from_mins(10);

/// What the kernel is told: its console, what to do when it panics, and that there is one hierarchy
/// of cgroups. Flaws of processors need no care where there is none.
const WORDS: &str = "console=ttyS0 panic=-1 quiet mitigations=off \
                     systemd.unified_cgroup_hierarchy=1 systemd.show_status=0 \
                     systemd.getty_auto=0";

/// What a machine is made of, whoever is tested on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    kernel: PathBuf,
    initial: PathBuf,
    root: PathBuf,
}

impl Machine {
    /// What a machine is made of, fetched and made now unless an earlier run did.
    ///
    /// # Errors
    /// When this machine cannot emulate one: it has another processor, or a package cannot be had.
    pub fn prepare(cache: &Cache) -> Result<Self> {
        if std::env::consts::ARCH != "x86_64" {
            bail!(
                "the emulated machine is an x86_64, whose programs this one ({}) does not build",
                std::env::consts::ARCH
            );
        }
        host::install(&[
            Need {
                package: "qemu-system-x86",
                provides: EMULATOR,
            },
            Need {
                package: "e2fsprogs",
                provides: "mke2fs",
            },
        ])?;
        let suite = Versions::pinned()?.cluster.debian;
        let kernel = kernel::fetch(cache, &suite)?;
        Ok(Self {
            initial: kernel::initial(cache, &suite, &kernel)?,
            kernel: kernel.image,
            root: disk::root(cache, &suite)?,
        })
    }

    /// Starts one with `parts` on its second disk, and waits until it has powered itself off.
    ///
    /// # Errors
    /// When a disk cannot be made, the emulator fails, or the machine still runs after ten minutes;
    /// and when the program inside did not come to its end. The error carries the last lines of the
    /// machine's console.
    pub fn boot(&self, run: &Run, parts: &[Part]) -> Result<Report> {
        let folder = run.disk_folder()?;
        let parts = disk::parts(&folder, parts)?;
        let told = folder.join("report");
        let isolated = IsolatedNamespace::start(
            run,
            NamespaceOptions {
                network: Network::Host,
                lifetime: Lifetime::Process,
            },
        )?;
        let mut command = isolated.command("env");
        // What the machine writes goes to a file there that has no name.
        command
            .arg(format!("TMPDIR={}", folder.display()))
            .arg(EMULATOR)
            .args(self.arguments(&parts, &told));
        let service = isolated.spawn("machine", command)?;
        let status = power_off(&service, &told);
        let text = fs::read(&told).unwrap_or_default();
        let status = status
            .with_context(|| format!("the report so far:\n{}", String::from_utf8_lossy(&text)))?;
        isolated.stop()?;
        if !status.success() {
            bail!("{EMULATOR}: {status}\n{}", service.last_words());
        }
        Report::read(&String::from_utf8_lossy(&text)).with_context(|| service.last_words())
    }

    fn arguments(&self, parts: &Path, told: &Path) -> Vec<String> {
        let mut words: Vec<String> = [
            "-accel",
            "tcg,thread=multi",
            "-smp",
            "2",
            "-cpu",
            "max",
            "-m",
            "2048",
        ]
        .map(str::to_owned)
        .into();
        words.extend(
            [
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
            ]
            .map(str::to_owned),
        );
        words.extend([
            "-kernel".to_owned(),
            self.kernel.display().to_string(),
            "-initrd".to_owned(),
            self.initial.display().to_string(),
        ]);
        words.extend(["-append".to_owned(), WORDS.to_owned()]);
        words.extend([
            "-drive".to_owned(),
            format!(
                "file={},if=virtio,format=raw,snapshot=on,cache=unsafe",
                self.root.display()
            ),
        ]);
        words.extend([
            "-drive".to_owned(),
            format!("file={},if=virtio,format=raw,readonly=on", parts.display()),
        ]);
        // The console, and the line that the program inside reports on.
        words.extend([
            "-serial".to_owned(),
            "stdio".to_owned(),
            "-serial".to_owned(),
            format!("file:{}", told.display()),
        ]);
        words
    }
}

/// Waits until the emulator has ended, and shows how far the program inside is.
fn power_off(service: &Service, told: &Path) -> Result<std::process::ExitStatus> {
    let mut heartbeat = Heartbeat::new("the emulated machine");
    let ended = || {
        let text = fs::read(told).unwrap_or_default();
        heartbeat.beat(
            String::from_utf8_lossy(&text)
                .trim_end()
                .lines()
                .next_back()
                .unwrap_or("boots"),
        );
        service.ended()
    };
    wait::until(
        "the emulated machine to power itself off",
        LIMIT,
        ended,
        || service.last_words(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_all_runs_is_not_written_to() {
        let machine = Machine {
            kernel: "/k".into(),
            initial: "/i".into(),
            root: "/root.img".into(),
        };
        let words = machine.arguments(Path::new("/parts.img"), Path::new("/told"));
        let drive = |file: &str| {
            words
                .iter()
                .find(|word| word.starts_with(&format!("file={file},")))
                .unwrap()
        };
        assert!(
            drive("/root.img").contains("snapshot=on")
                && drive("/parts.img").contains("readonly=on"),
            "{words:?}"
        );
    }
}
