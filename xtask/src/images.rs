//! `cargo xtask images`: the operator's and the installer's images, FROM scratch, and the runtime's
//! archive.
//!
//! | layer of the installer's image | contents | changes with |
//! |---|---|---|
//! | base | trusted certificates, links for the node's root, `/etc/passwd` | Debian's certificates |
//! | runtime | `/artifact/runtime.tar.gz` and its digest | the runtime |
//! | program | `/node-installer`, the guests that prove a node, the list of parts | the installer |
//!
//! The operator's image is one layer. The same sources, packages and compiler give the same
//! digests: times are zero, entries are in a fixed order, owners are root. Reasons:
//! docs/decisions/0004-images.md.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use testbed::cache::{self, Cache};
use testbed::image::{Credentials, FileArtifact, Packed, Registry, Transport, registry_in};
use testbed::prepared;
use testbed::progress;
use testbed::runtime_archive::{RuntimeArchive, Written};

use crate::bundle::{self, Bundle};

mod contents;
mod parts;

/// The registry in image names until they are pushed to one.
const NOWHERE: &str = "localhost";
/// Media type of the runtime's archive as an OCI artifact.
const RUNTIME: &str = "application/vnd.wasmedge.runtime.v1.tar+gzip";

/// Makes the images and the runtime's archive.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also put copies of the archives, their lists of parts and digests into DIR
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Push them to REGISTRY, such as `registry.example/team`
    #[arg(long, value_name = "REGISTRY")]
    push: Option<String>,
    /// Their tag [default: the runtime's version]
    #[arg(long)]
    tag: Option<String>,
    /// Speak plain HTTP to the registry. That is the default for registries on this machine.
    #[arg(long, requires = "push")]
    plain_http: bool,
}

/// The images and the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Operator,
    Installer,
    /// The runtime's archive as an OCI artifact.
    Runtime,
}

impl Name {
    /// Returns the last part of its repository.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "wasmedge-operator",
            Self::Installer => "node-installer",
            Self::Runtime => "wasmedge-runtime",
        }
    }
}

/// The results of the build.
#[derive(Debug)]
pub(crate) struct Images {
    /// The images in memory, without a registry's name yet.
    pub(crate) all: Vec<(Name, Packed)>,
    /// The runtime's archive.
    pub(crate) archive: Written,
    /// The folder with all written files.
    pub(crate) folder: PathBuf,
}

impl Images {
    /// Returns the images with their names in `registry`.
    pub(crate) fn named(self, registry: &str, tag: &str) -> Result<Vec<(Name, Packed)>> {
        self.all
            .into_iter()
            .map(|(name, image)| {
                Ok((
                    name,
                    image.named(&format!("{registry}/{}:{tag}", name.as_str()))?,
                ))
            })
            .collect()
    }
}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args {
        output,
        push,
        tag,
        plain_http,
    } = args;
    let cache = Cache::open()?;
    let images = build(&cache)?;
    if let Some(output) = output {
        copy_to(&images.folder, &output)?;
        progress::print_line(format_args!("wrote {}", output.display()));
    }
    let Images {
        archive, folder, ..
    } = &images;
    progress::print_line(format_args!(
        "{} {:.1} MB",
        archive.file.display(),
        bundle::megabytes(archive.size)
    ));
    progress::print_line(format_args!("  sha256 {}", archive.sha256));
    progress::print_line(format_args!("{}", folder.display()));
    let tag = tag.unwrap_or_else(|| bundle::VERSION.to_owned());
    let registry = push
        .as_deref()
        .unwrap_or(NOWHERE)
        .trim_end_matches('/')
        .to_owned();
    for (_, image) in images.named(&registry, &tag)? {
        let size = bundle::megabytes(image.size() as u64);
        let reference = if push.is_some() {
            push_to(&image, plain_http)?
        } else {
            format!("{}@{}", image.reference(), image.root().digest())
        };
        progress::print_line(format_args!("{reference} {size:.1} MB"));
    }
    Ok(())
}

/// Builds missing or outdated parts, and writes them to a folder in cargo's target folder.
pub(crate) fn build(cache: &Cache) -> Result<Images> {
    let bundle = bundle::build(cache)?;
    let folder = archive_folder(&bundle)?.join("images");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let _lock = cache::lock(&folder.join(".lock"))?;
    let archive = archive(&bundle, bundle::VERSION)?;
    let programs = progress::step(
        "built the operator and the installer",
        contents::Programs::build,
    )?;
    let reference = |name: Name| format!("{NOWHERE}/{}:{}", name.as_str(), bundle::VERSION);
    let operator = contents::operator(&reference(Name::Operator), &programs)?;
    let installer = contents::installer(
        &reference(Name::Installer),
        &programs,
        &archive,
        &bundle,
        cache,
    )?;
    let runtime = FileArtifact {
        reference: reference(Name::Runtime),
        media_type: RUNTIME.to_owned(),
        name: file_name(&archive.file),
        bytes: fs::read(&archive.file)
            .with_context(|| format!("read {}", archive.file.display()))?,
    };
    let all = vec![
        (Name::Operator, operator.image),
        (Name::Installer, installer.image),
        (Name::Runtime, runtime.pack()?),
    ];
    for (name, image) in &all {
        write(&folder.join(format!("{}.tar", name.as_str())), |draft| {
            image.write_archive(draft)
        })?;
    }
    for (name, parts) in [
        (Name::Operator, operator.parts),
        (Name::Installer, installer.parts),
    ] {
        let place = folder.join(format!("{}.spdx.json", name.as_str()));
        write(&place, |draft| {
            fs::write(draft, &parts).with_context(|| format!("write {}", draft.display()))
        })?;
    }
    Ok(Images {
        all,
        archive,
        folder,
    })
}

/// Returns the images' archives in the form for tests.
pub(crate) fn prepare(cache: &Cache) -> Result<prepared::Images> {
    let Images { folder, .. } = build(cache)?;
    let archive = |name: Name| folder.join(format!("{}.tar", name.as_str()));
    Ok(prepared::Images {
        operator: archive(Name::Operator),
        installer: archive(Name::Installer),
        runtime: archive(Name::Runtime),
    })
}

/// Returns the archive of `bundle` as `version`, rebuilt if the bundle has changed.
pub(crate) fn archive(bundle: &Bundle, version: &str) -> Result<Written> {
    let folder = archive_folder(bundle)?.join("archives").join(version);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let _lock = cache::lock(&folder.join(".lock"))?;
    let manifest = bundle.root.join("share/manifest.json");
    let manifest = fs::read(&manifest).with_context(|| format!("read {}", manifest.display()))?;
    let key = cache::Key::of([FORMAT.as_bytes(), version.as_bytes(), &manifest]);
    let record = folder.join(".made");
    if let Some(written) = find_recorded(&record, &key) {
        return Ok(written);
    }
    let written = progress::step(
        format_args!("made the archive of the runtime {version}"),
        || {
            RuntimeArchive::of_bundle(&bundle.root)?
                .with_version(version)
                .write(&folder)
        },
    )?;
    let text = format!(
        "{} {} {}",
        key.as_str(),
        written.sha256,
        written.file.display()
    );
    fs::write(&record, text).with_context(|| format!("write {}", record.display()))?;
    Ok(written)
}

/// Part of an archive's key: raised when the way of making archives changes.
const FORMAT: &str = "1";

/// Returns the archive of `record`, if it was made from the same input and still exists.
fn find_recorded(record: &Path, key: &cache::Key) -> Option<Written> {
    let text = fs::read_to_string(record).ok()?;
    let (made, rest) = text.split_once(' ')?;
    let (sha256, file) = rest.split_once(' ')?;
    let facts = fs::metadata(file).ok()?;
    (made == key.as_str()).then(|| Written {
        file: file.into(),
        sha256: sha256.to_owned(),
        size: facts.len(),
    })
}

/// Returns the folder beside the bundles, in cargo's target folder.
fn archive_folder(bundle: &Bundle) -> Result<PathBuf> {
    let shelf = bundle
        .root
        .parent()
        .with_context(|| format!("{} lies in no folder", bundle.root.display()))?;
    Ok(shelf.with_file_name("wasmedge-images"))
}

/// Writes a file atomically: concurrent readers find the former or the new one.
fn write(place: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let draft = place.with_file_name(format!(".{}-{}", file_name(place), std::process::id()));
    fill(&draft)?;
    fs::rename(&draft, place)
        .with_context(|| format!("rename {} to {}", draft.display(), place.display()))
}

/// Copies the images and the runtime's archive.
fn copy_to(folder: &Path, output: &Path) -> Result<()> {
    fs::create_dir_all(output).with_context(|| format!("make {}", output.display()))?;
    let archives = folder.with_file_name("archives").join(bundle::VERSION);
    for folder in [folder, &archives] {
        for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
            let from = entry
                .with_context(|| format!("list {}", folder.display()))?
                .path();
            let name = file_name(&from);
            if !name.starts_with('.') {
                let to = output.join(&name);
                fs::copy(&from, &to)
                    .with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
            }
        }
    }
    Ok(())
}

fn push_to(image: &Packed, plain_http: bool) -> Result<String> {
    let reference = image.reference();
    let registry = registry_in(&reference)
        .with_context(|| format!("{reference} names no registry: write registry.example/team"))?;
    let transport = if plain_http {
        Transport::Http
    } else {
        Transport::usual_for(&registry)
    };
    image.push(&Registry {
        transport,
        credentials: Credentials::of_docker(&registry)?,
    })
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
