//! The environment of benchmarks: a containerd in an isolated namespace, with every subject as a
//! handler, the images, and a network plugin.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use testbed::apt::{self, Dependencies, Request};
use testbed::cache::Cache;
use testbed::containerd::{Cgroups as Driver, Containerd, Cri, Handler, Install};
use testbed::isolated_namespace::{IsolatedNamespace, Lifetime, NamespaceOptions, Network};
use testbed::progress;
use testbed::teardown::Run;
use testbed::versions::Versions;

use super::client::Client;
use super::programs::{self, Does, NOWHERE, PAUSE};
use super::subject::{self, Files, Subject};

/// The mount point of cgroups.
const CGROUPS: &str = "/sys/fs/cgroup";
/// containerd's folder of pods' network namespaces.
const NETWORKS: &str = "/run/netns";
/// A bridge of the namespace. Its range is reserved for documentation, and no packet leaves the
/// namespace.
const NETWORK: &str = r#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge","bridge":"cni0","isGateway":true,
"ipam":{"type":"host-local","dataDir":"@DATA@","ranges":[[{"subnet":"198.18.0.0/16"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}"#;
/// The bridge's plugins, and the loopback plugin that containerd needs.
const PLUGINS: &[&str] = &["bridge", "host-local", "loopback"];

/// The cgroup hierarchies for containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cgroups {
    /// The machine's.
    Machine,
    /// Those of version 2. On a machine of version 1 they have no controllers, as those are in use:
    /// then joining and leaving a cgroup is all that is measured.
    Unified,
}

/// The network namespace of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Net {
    /// Created with the container, which takes the kernel a millisecond.
    Own,
    /// Created before, as for a container of a pod.
    Given,
}

/// The environment of all benchmarks of one machine.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) isolated: IsolatedNamespace,
    pub(super) containerd: Containerd,
    pub(super) client: Client,
    pub(super) subjects: Vec<Subject>,
    run: String,
}

impl Environment {
    /// Starts containerd in an isolated namespace with its own network.
    pub(super) fn start(
        cache: &Cache,
        run: &Run,
        install: &Install,
        subjects: &[Subject],
        cgroups: Cgroups,
    ) -> Result<Self> {
        let isolated = IsolatedNamespace::start(
            run,
            NamespaceOptions {
                network: Network::Private,
                lifetime: Lifetime::Process,
            },
        )?;
        hide_networks(run, &isolated)?;
        if cgroups == Cgroups::Unified {
            // The others would stay in the mount table, from which runtimes detect the version.
            isolated
                .run("umount")
                .args(["--recursive", CGROUPS])
                .done()?;
            isolated
                .run("mount")
                .args(["-t", "cgroup2", "cgroup2", CGROUPS])
                .done()?;
        }
        let others = subjects
            .iter()
            .filter(|subject| subject.files != Files::WithContainerd);
        let handler = |subject: &Subject| {
            let (name, shim, options) = (
                subject.name.to_string(),
                subject.shim.clone(),
                String::new(),
            );
            Handler {
                name,
                shim,
                cgroups: Driver::Unset,
                options,
            }
        };
        let cri = Cri {
            pause: format!("{NOWHERE}/{PAUSE}"),
            handlers: others.map(handler).collect(),
        };
        let containerd = Containerd::start_with_cri(run, &isolated, install, &cri)?;
        let client = Client::build(&containerd)?;
        let environment = Self {
            isolated,
            containerd,
            client,
            subjects: subjects.to_vec(),
            run: run.name().to_owned(),
        };
        environment.plug_in(cache)?;
        progress::step("imported the images", || {
            environment.import(cache, run.folder())
        })?;
        for subject in &environment.subjects {
            for does in [Does::Hello, Does::Idle, Does::Rest] {
                environment.make_template(subject, does, Net::Own)?;
            }
            environment.make_template(subject, Does::Hello, Net::Given)?;
        }
        Ok(environment)
    }

    /// Describes a subject for bench-client: copies of the template with this program, or pods of
    /// it.
    pub(super) fn entry(subject: &Subject, does: Does, net: Net) -> Value {
        let program = programs::program(subject.workload, does);
        json!({
            "name": subject.name,
            "shim": subject.shim,
            "template": template(subject, does, net),
            "handler": subject.name,
            "image": format!("{NOWHERE}/{}", program.image),
            "words": program.words,
        })
    }

    /// Describes all subjects, as [`Environment::entry`] does.
    pub(super) fn entries(&self, does: Does) -> Vec<Value> {
        self.subjects
            .iter()
            .map(|subject| Self::entry(subject, does, Net::Own))
            .collect()
    }

    /// Returns the cgroup for pods; the clean-up of the run finds by its name what is left in it.
    pub(super) fn pods(&self) -> String {
        format!("/{}.pods", self.run)
    }

    /// Returns the arguments of `ctr` that run a container to its end.
    pub(super) fn ctr_run(&self, subject: &Subject, id: &str) -> Vec<String> {
        let program = programs::program(subject.workload, Does::Hello);
        let ctr = self
            .containerd
            .install()
            .bin
            .join("ctr")
            .display()
            .to_string();
        let address = self.containerd.address().display().to_string();
        let mut words = vec![
            ctr,
            "--address".to_owned(),
            address,
            "--namespace".to_owned(),
            self.containerd.namespace().to_owned(),
        ];
        words.extend(["run", "--rm", "--runtime"].map(str::to_owned));
        words.extend([
            subject.runtime(),
            format!("{NOWHERE}/{}", program.image),
            id.to_owned(),
        ]);
        words.extend(program.words.iter().map(|word| (*word).to_owned()));
        words
    }

    fn import(&self, cache: &Cache, folder: &Path) -> Result<()> {
        for (number, image) in
            programs::images(cache, NOWHERE, &subject::workloads(&self.subjects))?
                .iter()
                .enumerate()
        {
            let archive = folder.join(format!("image-{number}.tar"));
            image.write_archive(&archive)?;
            self.containerd.import(&archive)?;
            self.containerd.import_into("k8s.io", &archive)?;
        }
        Ok(())
    }

    fn make_template(&self, subject: &Subject, does: Does, net: Net) -> Result<()> {
        let program = programs::program(subject.workload, does);
        let create =
            self.containerd
                .ctr()
                .args(["containers", "create", "--runtime", &subject.runtime()]);
        let create = match net {
            Net::Own => create,
            Net::Given => create.arg("--net-host"),
        };
        create
            .args([
                format!("{NOWHERE}/{}", program.image),
                template(subject, does, net),
            ])
            .args(program.words)
            .done()
    }

    /// Gives pods a network: containerd reads plugins and their configuration from one folder of
    /// its own.
    fn plug_in(&self, cache: &Cache) -> Result<()> {
        let suite = Versions::pinned()?.cluster.debian;
        let request = Request {
            suite: &suite,
            packages: &["containernetworking-plugins"],
            dependencies: Dependencies::Leave,
        };
        let plugins = apt::fetch(cache, &request)?.root.join("usr/lib/cni");
        let own = self
            .containerd
            .address()
            .parent()
            .context("containerd's socket lies in no folder")?
            .join("cni");
        self.isolated.run("mkdir").arg("-p").arg(&own).done()?;
        let files = PLUGINS
            .iter()
            .map(|name| plugins.join(name))
            .collect::<Vec<PathBuf>>();
        self.isolated.run("cp").args(files).arg(&own).done()?;
        let network = NETWORK.replace("@DATA@", &own.join("addresses").display().to_string());
        self.isolated
            .run("tee")
            .arg(own.join("10-pods.conflist"))
            .input(network)
            .done()
    }
}

fn template(subject: &Subject, does: Does, net: Net) -> String {
    let what = match does {
        Does::Hello => "hello",
        Does::Idle => "sleeper",
        Does::Rest => "rest",
    };
    let net = match net {
        Net::Own => "own",
        Net::Given => "given",
    };
    format!("template-{}-{what}-{net}", subject.name)
}

/// Keeps network namespaces private to the isolated namespace, and removes the folder if the
/// machine had none.
fn hide_networks(run: &Run, isolated: &IsolatedNamespace) -> Result<()> {
    let folder = Path::new(NETWORKS);
    if !folder.exists() {
        run.on_end(format!("remove {NETWORKS}"), || {
            match fs::remove_dir(NETWORKS) {
                // Another program uses it by now.
                Err(error) if error.kind() != std::io::ErrorKind::DirectoryNotEmpty => {
                    Err(error).with_context(|| format!("remove {NETWORKS}"))
                }
                _ => Ok(()),
            }
        });
    }
    isolated.mount_memory(folder)
}
