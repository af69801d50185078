//! Image archives for `docker load` and `ctr images import`: layers, a configuration for each
//! image, a list of images.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::cache::{self, hex};
use crate::command::Run;
use sha2::{Digest as _, Sha256};

/// A layer in an archive's folder.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    file: String,
    digest: String,
}

/// The program that a container of an image executes.
#[derive(Debug, Clone, Default)]
pub(super) struct Program<'a> {
    /// Program and first arguments.
    pub(super) entrypoint: &'a [&'a str],
    /// `NAME=value`, beside `PATH`.
    pub(super) env: &'a [&'a str],
    /// The stop signal; SIGTERM unless given.
    pub(super) stop_signal: Option<&'a str>,
}

/// An archive under construction, in a folder of its own.
#[derive(Debug)]
pub(super) struct Archive {
    folder: PathBuf,
    images: Vec<Value>,
    files: Vec<String>,
}

impl Archive {
    /// Creates an archive without images.
    pub(super) fn new(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(Self {
            folder,
            images: Vec::new(),
            files: Vec::new(),
        })
    }

    /// Adds a layer with the content of `tree`, owned by root.
    pub(super) fn layer_of(&mut self, tree: &Path) -> Result<Layer> {
        let draft = self.folder.join(".layer");
        Run::new("tar")
            .arg("--create")
            .arg(format!("--file={}", draft.display()))
            .args([
                "--numeric-owner",
                "--owner=0",
                "--group=0",
                "--mtime=@0",
                "--sort=name",
            ])
            .arg(format!("--directory={}", tree.display()))
            .arg(".")
            .done()?;
        let digest = cache::sha256_of_file(&draft)?;
        let file = format!("{digest}.tar");
        fs::rename(&draft, self.folder.join(&file))
            .with_context(|| format!("name the layer of {}", tree.display()))?;
        self.files.push(file.clone());
        Ok(Layer { file, digest })
    }

    /// Adds a layer that is already a tar file, on the same file system.
    pub(super) fn layer_from(&mut self, tar: &Path) -> Result<Layer> {
        let digest = cache::sha256_of_file(tar)?;
        let file = format!("{digest}.tar");
        fs::hard_link(tar, self.folder.join(&file))
            .with_context(|| format!("link {}", tar.display()))?;
        self.files.push(file.clone());
        Ok(Layer { file, digest })
    }

    /// Adds the image `name`.
    pub(super) fn image(
        &mut self,
        name: &str,
        layers: &[&Layer],
        program: &Program<'_>,
    ) -> Result<()> {
        let config = serde_json::to_vec(&configuration(layers, program))?;
        let file = format!("{}.json", hex(&Sha256::digest(&config)));
        fs::write(self.folder.join(&file), config)
            .with_context(|| format!("write the configuration of {name}"))?;
        let layers: Vec<&str> = layers.iter().map(|layer| layer.file.as_str()).collect();
        self.images
            .push(json!({ "Config": file, "RepoTags": [name], "Layers": layers }));
        self.files.push(file);
        Ok(())
    }

    /// Writes the archive to `file` and removes the folder.
    pub(super) fn finish(mut self, file: &Path) -> Result<()> {
        let list = "manifest.json".to_owned();
        fs::write(self.folder.join(&list), serde_json::to_vec(&self.images)?)
            .context("write the list of images")?;
        self.files.push(list);
        self.files.sort();
        self.files.dedup();
        Run::new("tar")
            .arg("--create")
            .arg(format!("--file={}", file.display()))
            // Two images may share a layer, which must not be stored as a hard link to itself.
            .args([
                "--hard-dereference",
                "--mtime=@0",
                "--numeric-owner",
                "--owner=0",
                "--group=0",
            ])
            .arg(format!("--directory={}", self.folder.display()))
            .args(&self.files)
            .done()?;
        fs::remove_dir_all(&self.folder)
            .with_context(|| format!("remove {}", self.folder.display()))
    }
}

fn configuration(layers: &[&Layer], program: &Program<'_>) -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let env: Vec<&str> = [path]
        .into_iter()
        .chain(program.env.iter().copied())
        .collect();
    let mut config = json!({ "Env": env, "WorkingDir": "/" });
    if !program.entrypoint.is_empty() {
        config["Entrypoint"] = json!(program.entrypoint);
    }
    if let Some(signal) = program.stop_signal {
        config["StopSignal"] = json!(signal);
    }
    let digests: Vec<String> = layers
        .iter()
        .map(|layer| format!("sha256:{}", layer.digest))
        .collect();
    json!({
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": digests },
        "history": layers.iter().map(|_| json!({ "created":
        "1970-01-01T00:00:00Z" })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_lists_its_images_with_their_layers() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("hello"), "hello").unwrap();
        let mut archive = Archive::new(folder.path().join("work")).unwrap();
        let layer = archive.layer_of(&tree).unwrap();
        for name in ["test/a:1", "test/b:1"] {
            archive
                .image(
                    name,
                    &[&layer],
                    &Program {
                        entrypoint: &["/hello"],
                        ..Program::default()
                    },
                )
                .unwrap();
        }
        let file = folder.path().join("images.tar");
        archive.finish(&file).unwrap();
        let list = Run::new("tar")
            .arg("-xOf")
            .arg(&file)
            .arg("manifest.json")
            .text()
            .unwrap();
        let list: Value = serde_json::from_str(&list).unwrap();
        assert_eq!(list[1]["RepoTags"], json!(["test/b:1"]));
        let config = Run::new("tar")
            .arg("-xOf")
            .arg(&file)
            .arg(list[0]["Config"].as_str().unwrap())
            .text()
            .unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["config"]["Entrypoint"], json!(["/hello"]));
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            json!(format!("sha256:{}", layer.digest))
        );
    }
}
