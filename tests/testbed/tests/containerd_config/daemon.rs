//! A containerd's program, and a folder with its configuration files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use installer_protocol::ConfigMode;
use installer_protocol::layout::{Configuration, Distribution, Layout, parent};
use node_installer::containerd::{
    ConfigDump, ConfigFacts, ConfigFiles, DumpOutput, FileChange, Version, WrittenHandler,
};
use testbed::prepared::Prepared;
use toml::Table;

use crate::machine_files::MachineFiles;

/// A containerd that reads configurations.
pub(crate) struct Daemon {
    /// Its part of tests' names.
    pub(crate) name: String,
    /// The version that it reports.
    pub(crate) version: Version,
    program: PathBuf,
    folder: PathBuf,
}

/// A folder with containerd's configuration of one node.
pub(crate) struct Tree<'a> {
    pub(crate) daemon: &'a Daemon,
    /// The main file.
    pub(crate) main: String,
    /// How handlers are added to the configuration.
    pub(crate) configuration: Configuration,
    folder: PathBuf,
}

impl Daemon {
    /// Returns every prepared containerd, each with a folder in `folder`.
    pub(crate) fn all(prepared: &Prepared, folder: &Path) -> Result<Vec<Self>> {
        let started = prepared
            .containerds
            .iter()
            .map(|install| (install.name.clone(), install.bin.join("containerd")));
        let others = prepared
            .daemons
            .iter()
            .map(|(version, program)| (version.clone(), program.clone()));
        started
            .chain(others)
            .map(|(name, program)| Self::new(name, program, folder))
            .collect()
    }

    fn new(name: String, program: PathBuf, folder: &Path) -> Result<Self> {
        let output = Command::new(&program)
            .arg("--version")
            .output()
            .with_context(|| format!("run {}", program.display()))?;
        let version = Version::parse(&String::from_utf8_lossy(&output.stdout))?;
        Ok(Self {
            folder: folder.join(&name),
            name,
            version,
            program,
        })
    }

    /// Makes a folder for the test `name` with these files, by their paths below it; the main one
    /// is `config.toml`.
    pub(crate) fn tree(&self, name: &str, files: &[(&str, String)]) -> Result<Tree<'_>> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let main = folder
            .join("config.toml")
            .to_str()
            .context("the folder's name is not UTF-8")?
            .to_owned();
        let tree = Tree {
            daemon: self,
            main,
            configuration: Configuration::MainFile,
            folder,
        };
        for (path, text) in files {
            tree.write(path, text)?;
        }
        Ok(tree)
    }

    /// Returns its default configuration.
    pub(crate) fn defaults(&self) -> Result<String> {
        let output = Command::new(&self.program)
            .args(["config", "default"])
            .output()
            .context("run config default")?;
        ensure!(
            output.status.success(),
            "config default: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).context("read the defaults")
    }
}

impl Tree<'_> {
    /// Writes one file.
    pub(crate) fn write(&self, path: &str, text: &str) -> Result<()> {
        let place = self.folder.join(path);
        let folder = place.parent().context("a file in a folder")?;
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&place, text))
            .with_context(|| format!("write {}", place.display()))
    }

    /// Returns the path of a file here.
    pub(crate) fn path(&self, path: &str) -> String {
        self.folder.join(path).display().to_string()
    }

    /// Gathers the installer's facts about it.
    pub(crate) fn facts(
        &self,
        mode: ConfigMode,
        record: Option<&WrittenHandler>,
    ) -> Result<ConfigFacts> {
        let layout = Layout {
            config: self.main.clone(),
            configuration: self.configuration.clone(),
            ..Distribution::Systemd.layout()
        };
        Ok(ConfigFacts::gather(
            &MachineFiles,
            &layout,
            mode,
            self.daemon.version,
            record,
        )?)
    }

    /// Applies the proposed changes, and checks the contents that the proposal expects.
    pub(crate) fn apply(&self, changes: &[FileChange]) -> Result<()> {
        let inside = format!("{}/", self.folder.display());
        for FileChange {
            path,
            before,
            after,
        } in changes
        {
            ensure!(path.starts_with(&inside), "{path} is outside this folder");
            ensure!(
                MachineFiles.read(path)? == *before,
                "{path} differs from the proposal's expectation"
            );
            match after {
                Some(bytes) => {
                    fs::create_dir_all(parent(path)).and_then(|()| fs::write(path, bytes))
                }
                None => fs::remove_file(path),
            }
            .with_context(|| format!("change {path}"))?;
        }
        Ok(())
    }

    /// Returns the bytes of all its files, by their paths.
    pub(crate) fn bytes(&self) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
        let (mut files, mut folders) = (BTreeMap::new(), vec![self.folder.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in
                fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?
            {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let bytes =
                        fs::read(&path).with_context(|| format!("read {}", path.display()))?;
                    files.insert(path, bytes);
                }
            }
        }
        Ok(files)
    }

    /// Returns containerd's merged configuration of the present files.
    pub(crate) fn settings(&self) -> Result<Settings> {
        let nothing = self.path("nothing");
        let is_absent = MachineFiles.read(&self.main)?.is_none();
        // containerd 1.x fails if the file given is missing; started without one, it has its
        // defaults.
        let main = if is_absent { &nothing } else { &self.main };
        if is_absent {
            self.write("nothing", "")?;
        }
        let DumpOutput {
            code,
            stdout,
            stderr,
        } = self.run(main)?;
        if is_absent {
            fs::remove_file(&nothing).context("remove the empty file")?;
        }
        ensure!(
            code == Some(0),
            "containerd {} refuses the configuration ({code:?}): {stderr}",
            self.daemon.name
        );
        let mut all: Table = stdout
            .parse()
            .with_context(|| format!("read the output of containerd {}", self.daemon.name))?;
        // The list of read files is not a setting.
        all.remove("imports");
        Ok(Settings { all })
    }

    /// Writes the merged configuration to the main file, as `containerd config dump > config.toml`
    /// does.
    pub(crate) fn write_back(&self) -> Result<()> {
        let DumpOutput {
            code,
            stdout,
            stderr,
        } = self.run(&self.main).context("run config dump")?;
        ensure!(code == Some(0), "config dump: {stderr}");
        fs::write(&self.main, stdout).with_context(|| format!("write {}", self.main))
    }

    fn run(&self, main: &str) -> io::Result<DumpOutput> {
        let output = Command::new(&self.daemon.program)
            .args(["-c", main, "config", "dump"])
            .current_dir("/")
            .output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(DumpOutput {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }
}

impl ConfigDump for Tree<'_> {
    fn dump(&self, main: &str, files: &[(String, Vec<u8>)]) -> io::Result<DumpOutput> {
        for (path, bytes) in files {
            fs::create_dir_all(parent(path))?;
            fs::write(path, bytes)?;
        }
        let dumped = self.run(main);
        if let Some((path, _)) = files.first() {
            fs::remove_dir_all(parent(path))?;
        }
        dumped
    }
}

/// A merged configuration of containerd.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    all: Table,
}

impl Settings {
    /// Returns the CRI plugin's settings of handlers.
    fn containerd(&mut self) -> Option<&mut Table> {
        let plugins = self.all.get_mut("plugins")?.as_table_mut()?;
        let names = ["io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"];
        let name = names.into_iter().find(|name| plugins.contains_key(*name))?;
        plugins
            .get_mut(name)?
            .as_table_mut()?
            .get_mut("containerd")?
            .as_table_mut()
    }

    fn runtimes(&mut self) -> Result<&mut Table> {
        self.containerd()
            .and_then(|table| table.get_mut("runtimes")?.as_table_mut())
            .context("no handlers at all")
    }

    /// Removes a handler and returns it.
    pub(crate) fn take(&mut self, name: &str) -> Result<Table> {
        match self.runtimes()?.remove(name) {
            Some(toml::Value::Table(table)) => Ok(table),
            other => bail!("{other:?} instead of a handler {name}"),
        }
    }

    /// Returns the names of all handlers.
    pub(crate) fn handlers(&mut self) -> Result<Vec<String>> {
        Ok(self.runtimes()?.keys().cloned().collect())
    }

    /// Returns a value of the CRI plugin's settings of handlers.
    pub(crate) fn value(&mut self, keys: &[&str]) -> Option<toml::Value> {
        let (last, folders) = keys.split_last()?;
        let mut table = self.containerd()?;
        for key in folders {
            table = table.get_mut(*key)?.as_table_mut()?;
        }
        table.get(*last).cloned()
    }

    /// Checks that nothing differs; the error has the differing lines.
    pub(crate) fn expect_equal(&self, expected: &Self, when: &str) -> Result<()> {
        if self == expected {
            return Ok(());
        }
        let text = |settings: &Self| toml::to_string_pretty(&settings.all).unwrap_or_default();
        let (is, should) = (text(self), text(expected));
        let only_in = |one: &str, other: &str| {
            one.lines()
                .filter(|line| !other.lines().any(|known| known == *line))
                .take(9)
                .collect::<Vec<_>>()
                .join("\n")
        };
        bail!(
            "{when}, other settings changed:\nnew:\n{}\ngone:\n{}",
            only_in(&is, &should),
            only_in(&should, &is)
        )
    }
}
