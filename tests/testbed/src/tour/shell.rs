//! The environment of commands on a cluster: its kubeconfig, and the matching `kubectl` and `helm`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cluster::Cluster;
use crate::command::Run;
use crate::helm::Helm;

/// The variable with the address to push images to; pods pull them from `registry.local:5000`.
pub const REGISTRY_VARIABLE: &str = "KIND_REGISTRY";

/// The environment of commands on a cluster.
#[derive(Debug, Clone)]
pub struct Shell {
    kubeconfig: PathBuf,
    /// The cluster's registry, `host:port`, as this machine reaches it.
    registry: String,
    /// Folders that are searched first.
    programs: Vec<PathBuf>,
}

impl Shell {
    /// Returns the environment for `cluster`.
    ///
    /// # Errors
    /// Fails if a program's path has no parent folder.
    pub fn of(cluster: &Cluster, helm: &Helm) -> Result<Self> {
        let folders = [cluster.kubectl_program(), helm.program()]
            .map(|program| program.parent().map(ToOwned::to_owned));
        let programs = folders
            .into_iter()
            .collect::<Option<_>>()
            .context("find the folders of kubectl and helm")?;
        Ok(Self {
            kubeconfig: cluster.kubeconfig().to_owned(),
            registry: cluster.registry().to_owned(),
            programs,
        })
    }

    /// Returns a run of a shell line at the root of this checkout.
    ///
    /// # Errors
    /// Fails if a folder cannot be put on `PATH`.
    pub fn run(&self, line: &str) -> Result<Run> {
        let rest = std::env::var_os("PATH").unwrap_or_default();
        let folders = self
            .programs
            .iter()
            .cloned()
            .chain(std::env::split_paths(&rest));
        let path: OsString =
            std::env::join_paths(folders).context("put kubectl and helm on PATH")?;
        let run = Run::new("sh").args(["-c", line]).current_dir(repository());
        Ok(run
            .env("KUBECONFIG", &self.kubeconfig)
            .env(REGISTRY_VARIABLE, &self.registry)
            .env("PATH", path))
    }

    /// Returns the lines that set this environment in another shell.
    pub fn exports(&self) -> String {
        let folders: Vec<String> = self
            .programs
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        let (kubeconfig, folders) = (self.kubeconfig.display(), folders.join(":"));
        format!(
            "export KUBECONFIG='{kubeconfig}'\nexport {REGISTRY_VARIABLE}='{}'\nexport \
             PATH='{folders}':\"$PATH\"",
            self.registry
        )
    }
}

/// Returns the root of this checkout.
pub(super) fn repository() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .components()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_give_another_shell_the_same_environment() {
        let shell = Shell {
            kubeconfig: "/run/x y/kubeconfig".into(),
            registry: "10.0.0.1:5000".into(),
            programs: vec!["/a b".into(), "/c".into()],
        };
        let script = format!(
            "{}\nprintf '%s\\n%s\\n%s\\n' \"$KUBECONFIG\" \"$KIND_REGISTRY\" \"$PATH\"",
            shell.exports()
        );
        let text = Run::new("sh")
            .args(["-c", &script])
            .env("PATH", "/usr/bin")
            .text()
            .unwrap();
        assert_eq!(text, "/run/x y/kubeconfig\n10.0.0.1:5000\n/a b:/c:/usr/bin");
        let own = shell
            .run("printf '%s\\n' \"$KUBECONFIG\" \"${PATH%%:/c*}\"")
            .unwrap()
            .text()
            .unwrap();
        assert_eq!(own, "/run/x y/kubeconfig\n/a b");
    }
}
