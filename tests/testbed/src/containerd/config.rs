//! The configuration file of a private containerd: separate folders and socket, CRI if requested,
//! nothing shared with the machine.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::install::Schema;

/// Configuration of CRI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cri {
    /// Image of the pause container. It must be present in the namespace `k8s.io`.
    pub pause: String,
    /// Handlers beside runc, which is the default one.
    pub handlers: Vec<Handler>,
}

/// A runtime handler of CRI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// Its name.
    pub name: String,
    /// The shim.
    pub shim: PathBuf,
    /// The cgroup option of its runtime options.
    pub cgroups: Cgroups,
    /// Its other runtime options: lines of a table.
    pub options: String,
}

/// The cgroup option of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    /// The runtime itself sets up cgroups.
    Cgroupfs,
    /// No option.
    Unset,
}

/// Returns the file's text for a containerd with all files in `folder`.
pub(super) fn text(schema: Schema, folder: &Path, cri: Option<&Cri>) -> String {
    let (version, disabled) = disabled(schema, cri);
    let rest = cri
        .map(|cri| cri_text(schema, folder, cri))
        .unwrap_or_default();
    let folder = folder.display();
    format!(
        "version = {version}\nroot = \"{folder}/root\"\nstate = \
         \"{folder}/state\"\ndisabled_plugins = {disabled:?}\n\n\
         [grpc]\naddress = \"{folder}/containerd.sock\"\n\n[ttrpc]\naddress = \
         \"{folder}/containerd.sock.ttrpc\"\n\n\
         [debug]\nlevel = \"info\"\n{rest}"
    )
}

/// Returns the schema's number and the disabled plugins: those that would touch folders of the
/// machine, and CRI unless a test requests it.
fn disabled(schema: Schema, cri: Option<&Cri>) -> (u32, Vec<&'static str>) {
    let (version, mut disabled, without_cri) = match schema {
        Schema::Two => (
            2,
            vec![
                "io.containerd.internal.v1.opt",
                "io.containerd.internal.v1.tracing",
            ],
            &["io.containerd.grpc.v1.cri"][..],
        ),
        Schema::Three => (
            3,
            vec![
                "io.containerd.internal.v1.opt",
                "io.containerd.internal.v1.tracing",
            ],
            &[
                "io.containerd.grpc.v1.cri",
                "io.containerd.cri.v1.images",
                "io.containerd.cri.v1.runtime",
                "io.containerd.podsandbox.controller.v1.podsandbox",
                "io.containerd.nri.v1.nri",
            ][..],
        ),
    };
    if cri.is_none() {
        disabled.extend(without_cri);
    }
    (version, disabled)
}

/// The annotations that containerd passes to a handler, as the installer writes them.
const ANNOTATIONS: &str = "\"runtime.wasmedge.dev/*\"";

/// Returns CRI's part. Network plugins are searched in the folder `cni`, which is empty at first:
/// pods use the machine's network.
fn cri_text(schema: Schema, folder: &Path, cri: &Cri) -> String {
    let Cri { pause, handlers } = cri;
    let cni = folder.join("cni").display().to_string();
    let (plugin, sandbox) = match schema {
        Schema::Two => {
            let plugin = "io.containerd.grpc.v1.cri";
            (
                plugin,
                format!("[plugins.\"{plugin}\"]\nsandbox_image = {pause:?}\n"),
            )
        }
        Schema::Three => (
            "io.containerd.cri.v1.runtime",
            format!(
                "[plugins.\"io.containerd.cri.v1.images\".pinned_images]\nsandbox = {pause:?}\n\
                 [plugins.\"io.containerd.nri.v1.nri\"]\ndisable = \
                 true\n[plugins.\"io.containerd.cri.v1.runtime\"]\n"
            ),
        ),
    };
    // 2.1 and later have defaults for the second key, which takes precedence over the first.
    let plugins = match schema {
        Schema::Two => format!("bin_dir = {cni:?}"),
        Schema::Three => format!("bin_dirs = [{cni:?}]"),
    };
    // The machine may not be allowed to lower a process's OOM score, and may lack the hugetlb
    // controller. Network namespaces are kept in a folder of the isolated namespace.
    let mut text = format!(
        "\n{sandbox}restrict_oom_score_adj = true\ntolerate_missing_hugetlb_controller = true\n\
         netns_mounts_under_state_dir = true\n\
         [plugins.\"{plugin}\".cni]\n{plugins}\nconf_dir = {cni:?}\n\
         [plugins.\"{plugin}\".containerd]\ndefault_runtime_name = \"runc\"\n\
         [plugins.\"{plugin}\".containerd.runtimes.runc]\nruntime_type = \
         \"io.containerd.runc.v2\"\n"
    );
    for Handler {
        name,
        shim,
        cgroups,
        options,
    } in handlers
    {
        let table = format!("plugins.\"{plugin}\".containerd.runtimes.{name}");
        // Every version has a runtime type that is a path.
        writeln!(
            text,
            "[{table}]\nruntime_type = \"{}\"\npod_annotations = [{ANNOTATIONS}]\n\
             container_annotations = [{ANNOTATIONS}]",
            shim.display()
        )
        .expect("a text takes all that is written");
        let driver = match cgroups {
            Cgroups::Cgroupfs => "SystemdCgroup = false\n",
            Cgroups::Unset => "",
        };
        if !(driver.is_empty() && options.is_empty()) {
            writeln!(text, "[{table}.options]\n{driver}{options}")
                .expect("a text takes all that is written");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_text_is_toml_of_the_schemas_version() {
        for (schema, version) in [(Schema::Two, 2), (Schema::Three, 3)] {
            let parsed: toml::Table = text(schema, Path::new("/run/x"), None).parse().unwrap();
            assert_eq!(parsed["version"].as_integer(), Some(version));
            assert_eq!(
                parsed["grpc"]["address"].as_str(),
                Some("/run/x/containerd.sock")
            );
        }
    }

    #[test]
    fn config_with_cri_disables_no_part_of_it() {
        let handler = Handler {
            name: "wasm".to_owned(),
            shim: "/x/shim".into(),
            cgroups: Cgroups::Cgroupfs,
            options: "grouping = \"pod\"".to_owned(),
        };
        let cri = Cri {
            pause: "localhost/pause:1".to_owned(),
            handlers: vec![handler],
        };
        for schema in [Schema::Two, Schema::Three] {
            let parsed: toml::Table = text(schema, Path::new("/run/x"), Some(&cri))
                .parse()
                .unwrap();
            let disabled = parsed["disabled_plugins"].as_array().unwrap();
            assert!(
                !disabled
                    .iter()
                    .any(|plugin| plugin.as_str().unwrap().contains("cri")),
                "{disabled:?}"
            );
            let plugins = parsed["plugins"].as_table().unwrap();
            let runtimes = plugins
                .values()
                .find_map(|plugin| plugin.get("containerd")?.get("runtimes"))
                .unwrap();
            assert_eq!(runtimes["wasm"]["runtime_type"].as_str(), Some("/x/shim"));
            assert_eq!(
                runtimes["wasm"]["pod_annotations"][0].as_str(),
                Some("runtime.wasmedge.dev/*")
            );
            assert_eq!(
                runtimes["wasm"]["options"]["SystemdCgroup"].as_bool(),
                Some(false)
            );
            assert_eq!(
                runtimes["wasm"]["options"]["grouping"].as_str(),
                Some("pod")
            );
        }
    }
}
