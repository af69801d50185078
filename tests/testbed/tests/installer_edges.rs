//! The node installer's use of containerd, on real containerds with CRI and the bundle's shim: the
//! reported handlers, and the smoke guest with all results. Part of the node class.
//!
//! `cargo xtask test --class node` prepares the artifacts and passes their paths; without that,
//! every test is reported as ignored, with the reason. The tests of one containerd run one after
//! the other: a smoke test removes the containers of earlier ones, so concurrent ones would remove
//! each other's.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use cri_client::Client;
use cri_client::message::ContainerState;
use installer_protocol::CgroupDriver;
use libtest_mimic::{Arguments, Completion, Failed};
use node_installer::cri::{Cri, CriError, ReadyError};
use node_installer::smoke::{self, Logs, Smoke, SmokeError};
use test_guests::{EXIT_42, Guest, HELLO, SPIN};
use testbed::containerd::{Cgroups, Containerd, Cri as CriConfig, Handler, Install};
use testbed::image::{Entry, RootfsImage, compile_if_text};
use testbed::isolated_namespace::{IsolatedNamespace, Lifetime, NamespaceOptions, Network};
use testbed::prepared::Prepared;
use testbed::program;
use testbed::teardown::Run;
use testbed::wait;

#[path = "installer_edges/usage.rs"]
mod usage;

use usage::containers_of_a_launcher_are_found_without_containerds_state_folder;

/// Timeout of a smoke test.
const SMOKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two looks at the state of a guest.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// CRI's namespace.
const NAMESPACE: &str = "k8s.io";
/// The handler that runs guests.
const HANDLER: &str = "wasmedge";
/// A handler of the same shim, without options.
const PLAIN: &str = "plain";
/// A handler with a missing program.
const BROKEN: &str = "broken";
/// The image with the smoke guest, a copy of the installer's.
const SMOKE: &str = "localhost/smoke:1";

/// A test: a rule, and the function that checks it.
struct Test {
    name: &'static str,
    body: fn(&Node) -> Result<()>,
}

macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        const TESTS: &[Test] = &[$(Test { name: stringify!($name), body: $name }),+];
    };
}

tests![
    containerd_reports_its_handlers,
    cgroup_driver_is_read_from_a_handlers_configuration,
    the_smoke_guest_runs_and_leaves_nothing,
    a_handler_without_options_runs_the_smoke_guest_too,
    handler_with_a_missing_program_is_listed_and_fails_the_smoke_test,
    unconfigured_handler_fails_the_smoke_test,
    missing_smoke_image_is_named,
    smoke_guest_with_another_exit_fails_with_its_output,
    smoke_guest_without_output_fails,
    smoke_guest_that_does_not_exit_times_out_and_is_removed,
    containers_of_a_killed_installer_are_removed_by_the_next_one,
    container_without_its_sandbox_is_removed_by_the_next_smoke_test,
    smoke_guest_is_started_again_if_its_sandbox_is_stopped,
    containers_of_a_launcher_are_found_without_containerds_state_folder,
    client_waits_for_a_restarted_containerd,
    missing_containerd_is_distinguished_from_one_that_is_not_ready,
];

fn main() -> Result<ExitCode> {
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    let all = TESTS.iter().map(|test| test.name);
    program::run(&args, "edges", all, |run, prepared| {
        let mut trials = Vec::new();
        for install in &prepared.containerds {
            let named = TESTS
                .iter()
                .map(|test| (format!("edges::{}::{}", install.name, test.name), test));
            let start = || Node::start(run, install, &prepared);
            trials.extend(program::on(
                &args,
                named,
                start,
                |node: &Node, test: &Test| node.perform(test).map(|()| Completion::Completed),
            )?);
        }
        Ok(trials)
    })
}

/// A containerd in an isolated namespace of its own.
struct Node {
    containerd: Containerd,
    /// The socket's path for this process.
    socket: PathBuf,
    logs: PathBuf,
    /// The launcher of the working handlers.
    launcher: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Node {
    fn start(run: &Run, install: &Install, prepared: &Prepared) -> Result<Self> {
        let isolated = IsolatedNamespace::start(
            run,
            NamespaceOptions {
                network: Network::Host,
                lifetime: Lifetime::Process,
            },
        )?;
        let shim = prepared.shims().join("containerd-shim-wasmedge-v1");
        let handler = |name: &str, shim: &Path, cgroups| {
            let (name, shim, options) = (name.to_owned(), shim.to_owned(), String::new());
            Handler {
                name,
                shim,
                cgroups,
                options,
            }
        };
        let handlers = vec![
            handler(HANDLER, &shim, Cgroups::Cgroupfs),
            handler(PLAIN, &shim, Cgroups::Unset),
            handler(
                BROKEN,
                Path::new("/nowhere/containerd-shim-wasmedge-v1"),
                Cgroups::Cgroupfs,
            ),
        ];
        let pause = pause(&prepared.guests.native)?;
        let cri = CriConfig {
            pause: pause.reference.clone(),
            handlers,
        };
        let containerd = Containerd::start_with_cri(run, &isolated, install, &cri)?;
        let folder = run.folder().join(format!("{}-edges", install.name));
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let smoke = RootfsImage {
            reference: SMOKE.to_owned(),
            entrypoint: vec!["/node-installer".to_owned()],
            files: vec![Entry::file(
                "/smoke.wasm",
                compile_if_text(include_bytes!("../../../installer/smoke/smoke.wat"))?,
                0o644,
            )],
            ..RootfsImage::default()
        };
        for image in [
            pause,
            smoke,
            holding(EXIT_42)?,
            holding(HELLO)?,
            holding(SPIN)?,
        ] {
            let archive = folder.join("image.tar");
            image.pack()?.write_archive(&archive)?;
            containerd.import_into(NAMESPACE, &archive)?;
        }
        // The namespace's mounts are seen through its first process.
        let socket = PathBuf::from(format!(
            "/proc/{}/root{}",
            isolated.init_pid(),
            containerd.address().display()
        ));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start a runtime")?;
        Ok(Self {
            containerd,
            socket,
            logs: folder.join("logs"),
            launcher: shim,
            runtime,
        })
    }

    fn perform(&self, test: &Test) -> Result<(), Failed> {
        (test.body)(self)
            .map_err(|error| Failed::from(format!("{error:#}\n{}", self.containerd.evidence())))
    }

    fn block<T>(&self, body: impl AsyncFnOnce(&Cri) -> T) -> T {
        self.runtime
            .block_on(async { body(&Cri::at(&self.socket)).await })
    }

    fn plan(&self, handler: &str, image: &str) -> Smoke {
        Smoke {
            runtime: "trial".to_owned(),
            handler: handler.to_owned(),
            image: image.to_owned(),
            driver: CgroupDriver::Auto,
            logs: Logs {
                node: self.logs.clone(),
                local: self.logs.clone(),
            },
            timeout: SMOKE_TIMEOUT,
        }
    }

    fn smoke(&self, plan: &Smoke) -> Result<smoke::Passed, SmokeError> {
        self.block(async |cri| smoke::run(cri, plan).await)
    }

    /// Runs a smoke test that must fail, and returns its error.
    fn failure(&self, plan: &Smoke) -> Result<SmokeError> {
        match self.smoke(plan) {
            Ok(passed) => bail!("the smoke test passed ({passed:?}), with {plan:?}"),
            Err(error) => Ok(error),
        }
    }

    /// Drops the smoke test of an endless guest once the guest runs, as a kill of the installer
    /// does: the guest keeps running, and nothing cleans up.
    fn drop_while_the_guest_runs(&self, endless: &Smoke) -> Result<()> {
        self.block(async |cri| {
            let client = Client::at(&self.socket);
            let runs = async {
                loop {
                    let containers = client.containers(BTreeMap::new()).await?;
                    if containers
                        .iter()
                        .any(|container| container.state() == ContainerState::Running)
                    {
                        return Ok(());
                    }
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
            };
            tokio::select! {
                ended = smoke::run(cri, endless) => bail!("an endless guest exited: {ended:?}"),
                runs = runs => runs,
            }
        })
    }

    /// Returns the containers of all pods in CRI.
    fn containers(&self) -> Result<String> {
        self.containerd
            .ctr()
            .args(["--namespace", NAMESPACE, "containers", "ls", "-q"])
            .text()
    }

    /// Checks that nothing of a smoke test is left.
    fn check_clean(&self) -> Result<()> {
        let containers = self.containers()?;
        ensure!(
            containers.trim().is_empty(),
            "containers are left: {containers}"
        );
        let left: Vec<_> = fs::read_dir(&self.logs)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        ensure!(left.is_empty(), "logs are left: {left:?}");
        Ok(())
    }
}

/// Packs the image of a pod's pause container: a program that sleeps until it gets a signal.
fn pause(program: &Path) -> Result<RootfsImage> {
    let bytes = fs::read(program).with_context(|| format!("read {}", program.display()))?;
    Ok(RootfsImage {
        reference: "localhost/pause:1".to_owned(),
        entrypoint: vec!["/native".to_owned(), "sleep".to_owned()],
        files: vec![Entry::file("/native", bytes, 0o755)],
        ..RootfsImage::default()
    })
}

/// Packs an image with another guest in the smoke guest's place.
fn holding(guest: Guest) -> Result<RootfsImage> {
    Ok(RootfsImage {
        reference: image_of(guest),
        files: vec![Entry::file(
            "/smoke.wasm",
            compile_if_text(&guest.bytes())?,
            0o644,
        )],
        ..RootfsImage::default()
    })
}

fn image_of(guest: Guest) -> String {
    format!("localhost/{}:1", guest.name)
}

fn containerd_reports_its_handlers(node: &Node) -> Result<()> {
    let served = node.block(async |cri| cri.wait_until_ready(SMOKE_TIMEOUT).await)?;
    for (handler, expected) in [
        ("runc", true),
        (HANDLER, true),
        (PLAIN, true),
        (BROKEN, true),
        ("another", false),
    ] {
        ensure!(
            served.handlers.has(handler) == Some(expected),
            "{handler}: {served:?}"
        );
    }
    Ok(())
}

fn cgroup_driver_is_read_from_a_handlers_configuration(node: &Node) -> Result<()> {
    let driver = |handler| node.block(async |cri| cri.driver(handler).await);
    ensure!(
        driver(HANDLER)? == Some(CgroupDriver::Cgroupfs),
        "{:?}",
        driver(HANDLER)?
    );
    ensure!(driver(PLAIN)?.is_none(), "{:?}", driver(PLAIN)?);
    Ok(())
}

fn the_smoke_guest_runs_and_leaves_nothing(node: &Node) -> Result<()> {
    let passed = node.smoke(&Smoke {
        driver: CgroupDriver::Cgroupfs,
        ..node.plan(HANDLER, SMOKE)
    })?;
    ensure!(passed.took < SMOKE_TIMEOUT, "{passed:?}");
    node.check_clean()
}

fn a_handler_without_options_runs_the_smoke_guest_too(node: &Node) -> Result<()> {
    node.smoke(&node.plan(PLAIN, SMOKE))?;
    node.check_clean()
}

fn handler_with_a_missing_program_is_listed_and_fails_the_smoke_test(node: &Node) -> Result<()> {
    let failure = node.failure(&node.plan(BROKEN, SMOKE))?;
    let SmokeError::Call {
        handler,
        source:
            CriError::Answer {
                call: "RunPodSandbox",
                answer,
                ..
            },
    } = &failure
    else {
        bail!("{failure:?}");
    };
    ensure!(
        handler == BROKEN && answer.contains("/nowhere/"),
        "{failure:?}"
    );
    node.check_clean()
}

fn unconfigured_handler_fails_the_smoke_test(node: &Node) -> Result<()> {
    let failure = node.failure(&node.plan("another", SMOKE))?;
    ensure!(
        matches!(&failure, SmokeError::Call { source: CriError::Answer { answer, .. },
            .. } if answer.contains("another")),
        "{failure:?}"
    );
    node.check_clean()
}

fn missing_smoke_image_is_named(node: &Node) -> Result<()> {
    let failure = node.failure(&node.plan(HANDLER, "localhost/none:1"))?;
    ensure!(
        matches!(&failure, SmokeError::NoImage { image } if image == "localhost/none:1"),
        "{failure:?}"
    );
    node.check_clean()
}

fn smoke_guest_with_another_exit_fails_with_its_output(node: &Node) -> Result<()> {
    let failure = node.failure(&node.plan(HANDLER, &image_of(HELLO)))?;
    ensure!(
        matches!(&failure, SmokeError::WrongEnd { code: 0, log, .. } if log == "hello from wasm"),
        "{failure:?}"
    );
    node.check_clean()
}

fn smoke_guest_without_output_fails(node: &Node) -> Result<()> {
    let failure = node.failure(&node.plan(HANDLER, &image_of(EXIT_42)))?;
    ensure!(
        matches!(&failure, SmokeError::Silent { log } if log.is_empty()),
        "{failure:?}"
    );
    node.check_clean()
}

fn smoke_guest_that_does_not_exit_times_out_and_is_removed(node: &Node) -> Result<()> {
    let timeout = Duration::from_secs(5);
    let failure = node.failure(&Smoke {
        timeout,
        ..node.plan(HANDLER, &image_of(SPIN))
    })?;
    ensure!(
        matches!(failure, SmokeError::TimedOut { .. }),
        "{failure:?}"
    );
    node.check_clean()
}

fn containers_of_a_killed_installer_are_removed_by_the_next_one(node: &Node) -> Result<()> {
    node.drop_while_the_guest_runs(&node.plan(HANDLER, &image_of(SPIN)))?;
    let left = node.containers()?;
    ensure!(
        left.lines().count() == 2,
        "a sandbox and its guest should be left: {left:?}"
    );
    node.smoke(&node.plan(HANDLER, SMOKE))?;
    node.check_clean()
}

fn container_without_its_sandbox_is_removed_by_the_next_smoke_test(node: &Node) -> Result<()> {
    node.drop_while_the_guest_runs(&node.plan(HANDLER, &image_of(SPIN)))?;
    // The state after a sandbox was removed while containerd created the container: CRI has the
    // container and no sandbox.
    let ctr = |args: &[&str]| {
        node.containerd
            .ctr()
            .args(["--namespace", NAMESPACE])
            .args(args)
    };
    let sandbox = ctr(&[
        "containers",
        "ls",
        "-q",
        "labels.\"io.cri-containerd.kind\"==sandbox",
    ])
    .text()?;
    // CRI deletes the task too once it is killed, so either may come too late.
    let removed = || {
        ctr(&["tasks", "rm", "--force", &sandbox]).output()?;
        Ok(ctr(&["containers", "rm", &sandbox])
            .output()?
            .status
            .success()
            .then_some(()))
    };
    wait::until(
        "the sandbox's own container to be removed",
        SMOKE_TIMEOUT,
        removed,
        || node.containerd.evidence(),
    )?;
    if !node.containerd.install().version.starts_with("1.") {
        ctr(&["sandboxes", "rm", "--force", &sandbox]).done()?;
    }
    node.containerd.restart()?;
    let left = node.containers()?;
    ensure!(
        left.lines().count() == 1 && left != sandbox,
        "the guest's container alone should be left: {left:?}"
    );
    smoke_after_restart(node)?;
    node.check_clean()
}

/// Runs the smoke guest on a restarted containerd.
fn smoke_after_restart(node: &Node) -> Result<()> {
    let smoked = || match node.smoke(&node.plan(HANDLER, SMOKE)) {
        Ok(passed) => Ok(Some(passed)),
        // containerd finds its images again one after the other.
        Err(SmokeError::NoImage { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    };
    wait::until(
        "the smoke guest to run after the restart",
        SMOKE_TIMEOUT,
        smoked,
        || node.containerd.evidence(),
    )
    .map(drop)
}

fn smoke_guest_is_started_again_if_its_sandbox_is_stopped(node: &Node) -> Result<()> {
    // As kubelet does, which does not know the pod, but sooner: from the creation of the sandbox
    // until, in most cases, after that of its container. A guest may be too quick for the longer
    // delays.
    let mut stopped = 0;
    for pause in [1, 5, 10, 15, 20, 30, 40, 60, 80] {
        let plan = Smoke {
            runtime: format!("trial-{pause}"),
            ..node.plan(HANDLER, SMOKE)
        };
        let passed = node.block(async |cri| {
            let interference = async {
                while smoke::remove_leftovers(cri, &plan.runtime).await? == 0 {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                stopped += 1;
                std::future::pending::<Result<Infallible, CriError>>().await
            };
            tokio::select! {
                passed = smoke::run(cri, &plan) => Ok(passed),
                failed = interference => failed.map(|never| match never {}),
            }
        })?;
        passed.with_context(|| format!("with a delay of {pause} ms"))?;
        node.check_clean()
            .with_context(|| format!("after a delay of {pause} ms"))?;
    }
    ensure!(stopped > 0, "no sandbox was stopped");
    Ok(())
}

fn client_waits_for_a_restarted_containerd(node: &Node) -> Result<()> {
    let cri = node.runtime.block_on(async { Cri::at(&node.socket) });
    node.runtime.block_on(cri.served())?;
    node.containerd.restart()?;
    // The same client, on a connection that the restart has closed.
    let served = node.runtime.block_on(cri.wait_until_ready(SMOKE_TIMEOUT))?;
    ensure!(served.handlers.has(HANDLER) == Some(true), "{served:?}");
    smoke_after_restart(node)?;
    node.check_clean()
}

fn missing_containerd_is_distinguished_from_one_that_is_not_ready(node: &Node) -> Result<()> {
    let nowhere = node.socket.with_file_name("nowhere.sock");
    let (unreachable, unready) = node.runtime.block_on(async {
        let cri = Cri::at(&nowhere);
        (
            cri.served().await,
            cri.wait_until_ready(Duration::from_millis(300)).await,
        )
    });
    ensure!(
        matches!(&unreachable, Err(CriError::Unreachable { socket, .. }) if *socket == nowhere),
        "{unreachable:?}"
    );
    ensure!(
        matches!(&unready, Err(ReadyError::NotReady { last, .. }) if last.contains("No such file")),
        "{unready:?}"
    );
    Ok(())
}
