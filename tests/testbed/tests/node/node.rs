//! The fixture of the node class: one containerd, images of guests, containers with unique ids.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow, ensure};
use libtest_mimic::{Completion, Failed};
use test_guests::{EXIT_42, Guest, HELLO};
use testbed::containerd::{Container, Containerd, Finished, Install, Task};
use testbed::image::{Entry, Packed, RootfsImage};
use testbed::isolated_namespace::{IsolatedNamespace, Lifetime, NamespaceOptions, Network};
use testbed::prepared::Prepared;
use testbed::teardown::Run;

use crate::grpc::Client;
use crate::machine::{Machine, SETTLE_TIMEOUT};
use crate::pods_fixture::Pods;
use crate::tasks::Tasks;

/// A test: a rule and the function that checks it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) body: fn(&Node) -> Result<Verdict>,
}

/// Makes a list of tests from functions with these names.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        pub(crate) const TESTS: &[crate::node::Test] = &[$(crate::node::Test { name:
            stringify!($name), body: $name }),+];
    };
}
pub(crate) use tests;

/// The result of a test that did not fail.
#[derive(Debug)]
pub(crate) enum Verdict {
    Holds,
    /// This containerd cannot show the rule, for this reason.
    Skipped(String),
}

/// One containerd in an isolated namespace of its own.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) containerd: Containerd,
    pub(crate) isolated: IsolatedNamespace,
    pub(crate) prepared: Arc<Prepared>,
    folder: PathBuf,
    count: AtomicU32,
    imported: Mutex<HashSet<String>>,
    client: Client,
    pods: Mutex<Option<Arc<Pods>>>,
}

impl Node {
    pub(crate) fn start(run: &Run, install: &Install, prepared: Arc<Prepared>) -> Result<Self> {
        let isolated = IsolatedNamespace::start(
            run,
            NamespaceOptions {
                network: Network::Host,
                lifetime: Lifetime::Process,
            },
        )?;
        let containerd = Containerd::start(run, &isolated, install, &[&prepared.shims()])?;
        let folder = run.folder().join(format!("{}-tests", install.name));
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let client = Client::of(&containerd)?;
        Ok(Self {
            containerd,
            isolated,
            prepared,
            folder,
            count: AtomicU32::new(0),
            imported: Mutex::default(),
            client,
            pods: Mutex::default(),
        })
    }

    /// Runs `body` on a separate containerd of the same version, in an isolated namespace of its
    /// own, for tests that would disturb others.
    pub(crate) fn alone(
        &self,
        what: &str,
        body: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<Verdict> {
        Self::alone_with(what, self.containerd.install(), &self.prepared, body)
    }

    /// As [`Node::alone`], with any containerd.
    pub(crate) fn alone_with(
        what: &str,
        install: &Install,
        prepared: &Arc<Prepared>,
        body: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<Verdict> {
        let run = Run::start(what)?;
        let alone = Self::start(&run, install, Arc::clone(prepared))?;
        body(&alone)
            .map_err(|error| anyhow!("{error:#}\nalone, {}", alone.containerd.evidence()))?;
        drop(alone);
        run.finish()?;
        Ok(Verdict::Holds)
    }

    /// Returns the inspection of its machine.
    pub(crate) fn machine(&self) -> Machine<'_> {
        Machine::new(&self.containerd, self.containerd.namespace())
    }

    /// Returns containerd's service of tasks.
    pub(crate) fn tasks(&self) -> Tasks<'_> {
        Tasks::new(&self.client)
    }

    /// Returns a containerd of the same version that serves CRI, which is started on first use.
    pub(crate) fn pods(&self) -> Result<Arc<Pods>> {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pods) = &*pods {
            return Ok(Arc::clone(pods));
        }
        let started = Arc::new(Pods::start(self.containerd.install(), &self.prepared)?);
        *pods = Some(Arc::clone(&started));
        Ok(started)
    }

    /// Runs a test; a failure carries containerd's evidence.
    pub(crate) fn perform(&self, test: &Test) -> Result<Completion, Failed> {
        match (test.body)(self) {
            Ok(Verdict::Holds) => Ok(Completion::Completed),
            Ok(Verdict::Skipped(reason)) => Ok(Completion::ignored_with(reason)),
            Err(error) => Err(Failed::from(format!(
                "{error:#}\n{}\n{}",
                self.containerd.evidence(),
                self.evidence_of_pods()
            ))),
        }
    }

    fn evidence_of_pods(&self) -> String {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.as_ref()
            .map_or_else(String::new, |pods| pods.containerd.evidence())
    }

    /// Kills and deletes the task with its container, and waits until nothing of it is left.
    pub(crate) fn kill_and_delete(&self, task: Task) -> Result<()> {
        let id = task.id().to_owned();
        task.kill("SIGKILL")?;
        task.wait(SETTLE_TIMEOUT)?;
        task.delete()?;
        self.machine().nothing_left(&id)
    }

    /// Returns a unique container id.
    pub(crate) fn id(&self, what: &str) -> String {
        format!("{what}-{}", self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes an empty folder of the machine, for a test to mount.
    pub(crate) fn folder(&self) -> Result<PathBuf> {
        let folder = self.folder.join(self.id("folder"));
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(folder)
    }

    /// Imports the image into containerd, and returns its name.
    pub(crate) fn image(&self, packed: &Packed) -> Result<String> {
        let reference = packed.reference();
        // Held during the import: two tests may need the same image at once.
        let mut imported = self.imported.lock().unwrap_or_else(PoisonError::into_inner);
        if imported.insert(reference.clone()) {
            let archive = self.folder.join(format!("{}.tar", self.id("image")));
            packed.write_archive(&archive)?;
            self.containerd.import(&archive)?;
        }
        Ok(reference)
    }

    /// Imports an image `FROM scratch` with the entrypoint `guest` at `/app.wasm`, and returns its
    /// name.
    pub(crate) fn image_of(&self, guest: &Guest) -> Result<String> {
        self.image(&RootfsImage::of_guest(&reference(guest.name), guest.bytes()).pack()?)
    }

    /// Describes a container of `guest`.
    pub(crate) fn guest(&self, guest: &Guest) -> Result<Container> {
        Ok(self
            .containerd
            .container(&self.image_of(guest)?, &self.id(guest.name)))
    }

    /// Describes a container of the probe with `args`. Its image's only variable is `IMAGE=1`; it
    /// has an empty folder `/data`.
    pub(crate) fn probe(&self, args: &[&str]) -> Result<Container> {
        let image = self.image(&probe_image(&self.prepared)?)?;
        Ok(self
            .containerd
            .container(&image, &self.id("probe"))
            .args(std::iter::once("/app.wasm").chain(args.iter().copied())))
    }

    /// Describes a container with several guests and a Linux program in its files that runs the
    /// probe with `args`.
    pub(crate) fn mixed(&self, args: &[&str]) -> Result<Container> {
        let image = self.image(&mixed_image(&self.prepared)?)?;
        Ok(self
            .containerd
            .container(&image, &self.id("mixed"))
            .args(std::iter::once("/app.wasm").chain(args.iter().copied())))
    }

    /// Describes a container of the static Linux program with `args`.
    pub(crate) fn native(&self, args: &[&str]) -> Result<Container> {
        let image = self.image(&native_image(&self.prepared)?)?;
        Ok(self
            .containerd
            .container(&image, &self.id("native"))
            .args(std::iter::once("/native").chain(args.iter().copied())))
    }
}

fn probe_image(prepared: &Prepared) -> Result<Packed> {
    let mut image = RootfsImage::of_guest(&reference("probe"), read(&prepared.guests.probe)?);
    image.env = vec!["IMAGE=1".to_owned()];
    image.files.push(Entry::folder("/data", 0o755));
    image.pack()
}

fn native_image(prepared: &Prepared) -> Result<Packed> {
    let mut image = RootfsImage::of_native(&reference("native"), read(&prepared.guests.native)?);
    image.env = vec!["IMAGE=native".to_owned()];
    image.pack()
}

/// Packs an image with three guests and a Linux program, for exec processes in one container. It
/// starts the probe.
pub(crate) fn mixed_image(prepared: &Prepared) -> Result<Packed> {
    mixed_image_with(prepared, "mixed", Vec::new())
}

/// As [`mixed_image`], with more files.
pub(crate) fn mixed_image_with(
    prepared: &Prepared,
    name: &str,
    more: Vec<Entry>,
) -> Result<Packed> {
    let mut image = RootfsImage::of_guest(&reference(name), read(&prepared.guests.probe)?);
    image.env = vec!["IMAGE=mixed".to_owned()];
    let files = [
        Entry::file("/native", read(&prepared.guests.native)?, 0o755),
        Entry::file("/hello.wasm", HELLO.bytes(), 0o644),
        Entry::file("/bin/exit.wasm", EXIT_42.bytes(), 0o644),
        Entry::folder("/data", 0o755),
    ];
    image.files.extend(files);
    image.files.extend(more);
    image.pack()
}

pub(crate) fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("read {}", file.display()))
}

/// Returns the name of a test's image.
pub(crate) fn reference(name: &str) -> String {
    format!("registry.test/{}:1", name.replace('_', "-"))
}

/// Fails unless the container exited with `code` and printed exactly `text`.
pub(crate) fn expect(finished: &Finished, code: i32, text: &str) -> Result<Verdict> {
    ensure!(
        finished.code == code && finished.stdout == text.as_bytes(),
        "expected exit code {code} and {text:?}, found {} and {:?}; standard error:\n{}",
        finished.code,
        finished.text(),
        finished.stderr
    );
    Ok(Verdict::Holds)
}

/// Fails unless the container was refused, before any guest ran, with a message that contains each
/// of `fragments`.
pub(crate) fn expect_refusal(finished: &Finished, fragments: &[&str]) -> Result<Verdict> {
    ensure!(
        finished.code != 0,
        "it ran, and printed {:?}",
        finished.text()
    );
    ensure!(
        finished.stdout.is_empty(),
        "it was refused, yet printed {:?}",
        finished.text()
    );
    let printed = finished.stderr.to_lowercase();
    ensure!(
        printed.contains("failed to create"),
        "it was not refused by Create:\n{}",
        finished.stderr
    );
    for fragment in fragments {
        ensure!(
            printed.contains(&fragment.to_lowercase()),
            "the message does not contain {fragment:?}:\n{}",
            finished.stderr
        );
    }
    Ok(Verdict::Holds)
}
