//! A machine with systemd and cgroup v2, emulated in software, for rules that this machine cannot
//! show.
//!
//! * [`kernel`]: Debian's kernel, and the initial file system that mounts the disk.
//! * [`disk`]: the root file system, the same for every run, and a second disk with the programs
//!   under test.
//! * [`report`]: the report of the program inside.
//!
//! QEMU translates every instruction, so it needs no privileges and no hardware virtualization, and
//! takes about ten times as long as this machine. The disks are not written to: each boot begins
//! with the same content.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::isolated_namespace::{IsolatedNamespace, Lifetime, NamespaceOptions, Network, Service};
use crate::progress::Heartbeat;
use crate::requirements::{self, Need};
use crate::teardown::Run;
use crate::versions::Versions;
use crate::wait;

pub mod disk;
mod kernel;
pub mod report;

pub use disk::Part;
pub use report::{Outcome, Report};

/// The emulator.
const EMULATOR: &str = "qemu-system-x86_64";
/// Timeout from power on to power off.
const BOOT_TIMEOUT: Duration = Duration::from_mins(10);

/// The kernel's command line: its console, the reaction to a panic, and the single cgroup
/// hierarchy. Mitigations of processor flaws are unnecessary here.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 panic=-1 quiet mitigations=off \
                     systemd.unified_cgroup_hierarchy=1 systemd.show_status=0 \
                     systemd.getty_auto=0";

/// The parts of a machine, for any test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    kernel: PathBuf,
    initial: PathBuf,
    root: PathBuf,
}

impl Machine {
    /// Returns the parts of a machine, which are fetched and made unless they are cached.
    ///
    /// # Errors
    /// Fails if this machine cannot emulate one: it has another processor, or a package cannot be
    /// fetched.
    pub fn prepare(cache: &Cache) -> Result<Self> {
        if std::env::consts::ARCH != "x86_64" {
            bail!(
                "the emulated machine is an x86_64, and this one ({}) builds no programs for it",
                std::env::consts::ARCH
            );
        }
        requirements::install(&[
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

    /// Starts a machine with `parts` on its second disk, and waits until it has powered itself off.
    ///
    /// # Errors
    /// Fails if a disk cannot be made, the emulator fails, the machine still runs after ten
    /// minutes, or the program inside did not finish. The error carries the last lines of the
    /// machine's console.
    pub fn boot(&self, run: &Run, parts: &[Part]) -> Result<Report> {
        let folder = run.disk_folder()?;
        let parts = disk::parts(&folder, parts)?;
        let report_file = folder.join("report");
        let isolated = IsolatedNamespace::start(
            run,
            NamespaceOptions {
                network: Network::Host,
                lifetime: Lifetime::Process,
            },
        )?;
        let mut command = isolated.command("env");
        // The machine's writes go to an unlinked temporary file.
        command
            .arg(format!("TMPDIR={}", folder.display()))
            .arg(EMULATOR)
            .args(self.arguments(&parts, &report_file));
        let service = isolated.spawn("machine", command)?;
        let status = power_off(&service, &report_file);
        let text = fs::read(&report_file).unwrap_or_default();
        let status = status
            .with_context(|| format!("the report so far:\n{}", String::from_utf8_lossy(&text)))?;
        isolated.stop()?;
        if !status.success() {
            bail!("{EMULATOR}: {status}\n{}", service.log_tail());
        }
        Report::read(&String::from_utf8_lossy(&text)).with_context(|| service.log_tail())
    }

    fn arguments(&self, parts: &Path, report_file: &Path) -> Vec<String> {
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
        words.extend(["-append".to_owned(), KERNEL_ARGUMENTS.to_owned()]);
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
        // The console, and the serial line for the report of the program inside.
        words.extend([
            "-serial".to_owned(),
            "stdio".to_owned(),
            "-serial".to_owned(),
            format!("file:{}", report_file.display()),
        ]);
        words
    }
}

/// Waits until the emulator has ended, and shows the progress of the program inside.
fn power_off(service: &Service, report_file: &Path) -> Result<std::process::ExitStatus> {
    let mut heartbeat = Heartbeat::new("the emulated machine");
    let ended = || {
        let text = fs::read(report_file).unwrap_or_default();
        heartbeat.beat(
            String::from_utf8_lossy(&text)
                .trim_end()
                .lines()
                .next_back()
                .unwrap_or("boots"),
        );
        service.exit_status()
    };
    wait::until(
        "the emulated machine to power itself off",
        BOOT_TIMEOUT,
        ended,
        || service.log_tail(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_disks_are_opened_read_only() {
        let machine = Machine {
            kernel: "/k".into(),
            initial: "/i".into(),
            root: "/root.img".into(),
        };
        let arguments = machine.arguments(Path::new("/parts.img"), Path::new("/report"));
        let drive = |file: &str| {
            arguments
                .iter()
                .find(|argument| argument.starts_with(&format!("file={file},")))
                .unwrap()
        };
        assert!(
            drive("/root.img").contains("snapshot=on")
                && drive("/parts.img").contains("readonly=on"),
            "{arguments:?}"
        );
    }
}
