//! A containerd that serves CRI, with this project's runtime as a handler and a network that gives
//! pods a loopback device.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use cri_client::blocking::Cri;
use cri_client::config::{self, ContainerConfig, NamespaceMode, PodConfig};
use testbed::containerd::{Cgroups, Containerd, Cri as CriConfig, Handler, Install};
use testbed::image::{Packed, RootfsImage};
use testbed::isolated_namespace::{IsolatedNamespace, Lifetime, NamespaceOptions, Network};
use testbed::prepared::Prepared;
use testbed::teardown::Run;

use crate::grpc::Client;
use crate::machine::Machine;
use crate::node::{Verdict, mixed_image};
use crate::tasks::Tasks;

/// The containerd namespace of CRI.
pub(crate) const NAMESPACE: &str = "k8s.io";
/// The handler of this project's runtime.
const HANDLER: &str = "wasmedge";
/// The image of the pause container; its program is never run.
const PAUSE: &str = "localhost/pause:1";
/// The image of all containers: guests and a Linux program.
pub(crate) const IMAGE: &str = "registry.test/mixed:1";
/// A network of a plugin that gives each pod the same address and does nothing else.
const NETWORK: &str = r#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"address"}]}"#;
const PLUGIN: &str = r#"#!/bin/sh
cat >/dev/null
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.3.1","0.4.0","1.0.0"]}' ;;
ADD)
    nsenter --net="$CNI_NETNS" ip link set lo up || exit 1
    echo '{"cniVersion":"1.0.0","interfaces":[{"name":"'"$CNI_IFNAME"'","sandbox":"'"$CNI_NETNS"'"}],"ips":[{"interface":0,"address":"192.0.2.1/24"}]}' ;;
esac
"#;

/// A containerd with CRI in an isolated namespace of its own.
#[derive(Debug)]
pub(crate) struct Pods {
    pub(crate) containerd: Containerd,
    pub(crate) isolated: IsolatedNamespace,
    client: Client,
    count: AtomicU32,
    // The last field: its end stops what the other fields use.
    run: Run,
}

/// A started pod.
#[derive(Debug)]
pub(crate) struct Pod<'a> {
    pub(crate) id: String,
    pub(crate) config: PodConfig,
    pods: &'a Pods,
}

impl Pods {
    pub(crate) fn start(install: &Install, prepared: &Prepared) -> Result<Self> {
        Self::start_with(install, prepared, "")
    }

    /// As [`Pods::start`], with lines of the handler's options.
    pub(crate) fn start_with(
        install: &Install,
        prepared: &Prepared,
        options: &str,
    ) -> Result<Self> {
        let shim = prepared.shims().join("containerd-shim-wasmedge-v1");
        let handler = Handler {
            name: HANDLER.to_owned(),
            shim,
            cgroups: Cgroups::Unset,
            options: options.to_owned(),
        };
        Self::start_on(install, prepared, vec![handler])
    }

    /// As [`Pods::start`], without a handler of this project's runtime.
    pub(crate) fn start_bare(install: &Install, prepared: &Prepared) -> Result<Self> {
        Self::start_on(install, prepared, Vec::new())
    }

    fn start_on(install: &Install, prepared: &Prepared, handlers: Vec<Handler>) -> Result<Self> {
        let run = Run::start("pods")?;
        let isolated = IsolatedNamespace::start(
            &run,
            NamespaceOptions {
                network: Network::Host,
                lifetime: Lifetime::Process,
            },
        )?;
        let containerd = Containerd::start_with_cri(
            &run,
            &isolated,
            install,
            &CriConfig {
                pause: PAUSE.to_owned(),
                handlers,
            },
        )?;
        let client = Client::in_namespace(&containerd, NAMESPACE)?;
        let pods = Self {
            containerd,
            isolated,
            client,
            count: AtomicU32::new(0),
            run,
        };
        // Its program is never run: the host holds pods itself.
        let pause = RootfsImage {
            reference: PAUSE.to_owned(),
            entrypoint: vec!["/nothing".to_owned()],
            ..RootfsImage::default()
        };
        for image in [pause.pack()?, mixed_image(prepared)?] {
            pods.import(&image)?;
        }
        pods.plug_in()?;
        Ok(pods)
    }

    /// Imports the image for CRI. For containerd 1.x `ctr` unpacks an image itself, and Debian's
    /// supports no Wasm layer: CRI unpacks missing layers when a container is created.
    pub(crate) fn import(&self, image: &Packed) -> Result<()> {
        let archive = self.run.folder().join(format!(
            "image-{}.tar",
            self.count.fetch_add(1, Ordering::Relaxed)
        ));
        image.write_archive(&archive)?;
        if self.containerd.install().version.starts_with("1.7.") {
            let ctr = self.containerd.ctr().args([
                "--namespace",
                NAMESPACE,
                "images",
                "import",
                "--no-unpack",
            ]);
            return ctr.arg(archive).done();
        }
        self.containerd.import_into(NAMESPACE, &archive)
    }

    /// Configures the pods' network. containerd itself needs a plugin that is called `loopback`.
    fn plug_in(&self) -> Result<()> {
        let folder = self.containerd.network_folder();
        self.isolated.run("mkdir").arg("-p").arg(&folder).done()?;
        for name in ["address", "loopback"] {
            self.isolated
                .run("tee")
                .arg(folder.join(name))
                .input(PLUGIN)
                .done()?;
            self.isolated
                .run("chmod")
                .arg("755")
                .arg(folder.join(name))
                .done()?;
        }
        self.isolated
            .run("tee")
            .arg(folder.join("10-pods.conflist"))
            .input(NETWORK)
            .done()
    }

    /// Stops it with all its containers, and returns clean-up errors.
    pub(crate) fn finish(self) -> Result<Verdict> {
        let Self { run, .. } = self;
        run.finish()?;
        Ok(Verdict::Holds)
    }

    pub(crate) fn cri(&self) -> Cri<'_, Client> {
        Cri::new(&self.client)
    }

    /// Returns containerd's service of tasks, for pods and their containers.
    pub(crate) fn tasks(&self) -> Tasks<'_> {
        Tasks::new(&self.client)
    }

    /// Returns the inspection of its machine.
    pub(crate) fn machine(&self) -> Machine<'_> {
        Machine::new(&self.containerd, NAMESPACE)
    }

    /// Returns a pod with a private network and private pid namespaces, as kubelet requests by
    /// default.
    pub(crate) fn default_config(&self) -> PodConfig {
        self.config(NamespaceMode::Pod, NamespaceMode::Container)
    }

    pub(crate) fn config(&self, network: NamespaceMode, pid: NamespaceMode) -> PodConfig {
        let name = format!("pod-{}", self.count.fetch_add(1, Ordering::Relaxed));
        // The end of the run finds the pod's resources by this name.
        config::pod(
            &name,
            network,
            pid,
            &format!("/{}.pods/{name}", self.run.name()),
        )
    }

    pub(crate) fn pod(&self, config: PodConfig) -> Result<Pod<'_>> {
        self.pod_of(HANDLER, config)
    }

    /// Starts a pod of another handler.
    pub(crate) fn pod_of(&self, handler: &str, config: PodConfig) -> Result<Pod<'_>> {
        let id = self.cri().run_sandbox(&config, handler)?;
        Ok(Pod {
            id,
            config,
            pods: self,
        })
    }

    /// Returns the folder of its run, the same on this machine and inside.
    pub(crate) fn folder(&self) -> &Path {
        self.run.folder()
    }
}

impl Pod<'_> {
    /// Starts a container that runs `args` of the image's files.
    pub(crate) fn run(&self, name: &str, args: &[&str]) -> Result<String> {
        self.run_container(self.config.container(name, IMAGE, args))
    }

    pub(crate) fn run_container(&self, container: ContainerConfig) -> Result<String> {
        let id = self
            .pods
            .cri()
            .create_container(&self.id, &self.config, container)?;
        self.pods.cri().start_container(&id)?;
        Ok(id)
    }

    /// Returns the pid of a container's process, or of the thread that holds the pod.
    pub(crate) fn pid(&self, id: &str) -> Result<i32> {
        let ctr = self
            .pods
            .containerd
            .ctr()
            .args(["--namespace", NAMESPACE, "tasks", "ls"]);
        let list = ctr.text()?;
        let row = list
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|row| row.first() == Some(&id));
        row.and_then(|row| row.get(1)?.parse().ok())
            .ok_or_else(|| anyhow::anyhow!("no process of {id}:\n{list}"))
    }

    /// Stops and removes the pod with all its containers.
    pub(crate) fn remove(self) -> Result<()> {
        self.pods.cri().remove_sandbox(&self.id)
    }
}
