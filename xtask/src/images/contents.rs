//! The contents of the images.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use testbed::apt::{self, Dependencies, Package};
use testbed::cache::Cache;
use testbed::image::{Compression, Entry, FileLayer, LayeredImage, Packed, compile_if_text};
use testbed::runtime_archive::Written;
use testbed::versions::Versions;

use super::parts::{self, Built, Parts};
use crate::bundle::{self, Bundle, executables};
use crate::setup;

/// The path at which the TLS library looks for trusted certificates in every distribution.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The operator's user: the number that is customary in images without users.
const NONROOT: &str = "65532:65532";

/// Both programs, static and stripped of debug information.
#[derive(Debug)]
pub(super) struct Programs {
    operator: PathBuf,
    installer: PathBuf,
}

impl Programs {
    /// Builds them.
    pub(super) fn build() -> Result<Self> {
        Ok(Self {
            operator: executables::fully_static("wasmedge-operator", "wasmedge-operator")?,
            installer: executables::fully_static("node-installer", "node-installer")?,
        })
    }
}

/// An image, and the list of its parts.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) image: Packed,
    /// SPDX 2.3 in JSON.
    pub(super) parts: Vec<u8>,
}

/// Builds the operator's image: its program and its user.
pub(super) fn operator(reference: &str, programs: &Programs) -> Result<Content> {
    let parts = Parts::of(
        "wasmedge-operator",
        parts::crates("wasmedge-operator", Built::Alone)?,
    )
    .text()?;
    let files = vec![
        Entry::file(
            "/etc/passwd",
            "nonroot:x:65532:65532:nonroot:/:/nonexistent\n",
            0o644,
        ),
        program("/wasmedge-operator", &programs.operator)?,
        Entry::file(
            "/usr/share/sbom/wasmedge-operator.spdx.json",
            parts.clone(),
            0o644,
        ),
    ];
    let image = LayeredImage {
        reference: reference.to_owned(),
        layers: vec![FileLayer {
            files,
            compression: Compression::Gzip,
        }],
        entrypoint: vec!["/wasmedge-operator".to_owned()],
        user: NONROOT.to_owned(),
        labels: labels(
            "WasmEdge operator",
            "Puts the runtime on the nodes of a cluster, one by one",
        ),
    };
    Ok(Content {
        image: image.pack()?,
        parts,
    })
}

/// Builds the installer's image: its program, the smoke guest, the runtime, and the links for the
/// node's root.
pub(super) fn installer(
    reference: &str,
    programs: &Programs,
    archive: &Written,
    bundle: &Bundle,
    cache: &Cache,
) -> Result<Content> {
    let certificates = Certificates::of(cache)?;
    let mut all = Parts::of(
        "node-installer",
        parts::crates("node-installer", Built::Alone)?,
    );
    all.add_debian(&Versions::pinned()?.cluster.debian, &certificates.packages);
    let runtime = bundle.packages()?;
    all.add_debian(&runtime.suite, &runtime.packages);
    all.add_crates(parts::crates("containerd-shim-wasmedge-v1", Built::Alone)?);
    all.add_crates(parts::crates("artifact-admin", Built::Alone)?);
    // As the bundle builds them (`bundle/executables.rs`).
    let built = if setup::is_release()? {
        Built::Alone
    } else {
        Built::WithWorkspace
    };
    all.add_crates(parts::crates("wasmedge-host", built)?);
    all.add_crates(parts::crates("compile-helper", built)?);
    let parts = all.text()?;
    let digest = format!("{}  runtime.tar.gz\n", archive.sha256);
    let mut own = vec![program("/node-installer", &programs.installer)?];
    own.extend(guests()?);
    own.push(Entry::file(
        "/usr/share/sbom/node-installer.spdx.json",
        parts.clone(),
        0o644,
    ));
    let layers = vec![
        FileLayer {
            files: certificates.into_base(),
            compression: Compression::Gzip,
        },
        // It is compressed already.
        FileLayer {
            files: vec![
                Entry::file("/artifact/runtime.tar.gz", read(&archive.file)?, 0o644),
                Entry::file("/artifact/runtime.tar.gz.sha256", digest, 0o644),
            ],
            compression: Compression::None,
        },
        FileLayer {
            files: own,
            compression: Compression::Gzip,
        },
    ];
    let image = LayeredImage {
        reference: reference.to_owned(),
        layers,
        entrypoint: vec!["/node-installer".to_owned()],
        // It writes the node's files as root; the pod drops root's other privileges.
        user: "0:0".to_owned(),
        labels: labels(
            "WasmEdge node installer",
            "Puts the WasmEdge runtime on one node of a cluster",
        ),
    };
    Ok(Content {
        image: image.pack()?,
        parts,
    })
}

/// The certificates of authorities that Debian trusts.
struct Certificates {
    bundle: Vec<u8>,
    copyright: Vec<u8>,
    packages: Vec<Package>,
}

impl Certificates {
    /// Collects all of them in one file, as Debian's package does at its installation.
    fn of(cache: &Cache) -> Result<Self> {
        let suite = Versions::pinned()?.cluster.debian;
        let request = apt::Request {
            suite: &suite,
            packages: &["ca-certificates"],
            dependencies: Dependencies::Leave,
        };
        let fetched = apt::fetch(cache, &request)?;
        let folder = fetched.root.join("usr/share/ca-certificates/mozilla");
        let files = files_in(&folder)?;
        ensure!(
            files.len() > 50,
            "{} holds {} certificates only: fetch the package again",
            folder.display(),
            files.len()
        );
        let mut bundle = Vec::new();
        for file in files {
            bundle.extend(read(&file)?);
            if !bundle.ends_with(b"\n") {
                bundle.push(b'\n');
            }
        }
        let copyright = read(&fetched.root.join("usr/share/doc/ca-certificates/copyright"))?;
        Ok(Self {
            bundle,
            copyright,
            packages: fetched.packages,
        })
    }

    /// Returns the files of the layer that hardly ever changes.
    fn into_base(self) -> Vec<Entry> {
        let mut files = vec![
            Entry::file("/etc/passwd", "root:x:0:0:root:/:/nonexistent\n", 0o644),
            Entry::file(CERTIFICATES, self.bundle, 0o644),
            Entry::file(
                "/usr/share/doc/ca-certificates/copyright",
                self.copyright,
                0o644,
            ),
        ];
        // The node's `/usr` is mounted below; its programs find their loader through these links.
        files.extend(
            ["bin", "lib", "lib64", "sbin"]
                .map(|name| Entry::link(&format!("/host/{name}"), &format!("usr/{name}"))),
        );
        files
    }
}

/// Compiles the guests that verify a node and a release from their texts: `/smoke.wasm` from
/// `smoke.wat`.
fn guests() -> Result<Vec<Entry>> {
    let folder = setup::repository().join("installer/smoke");
    let mut sources = files_in(&folder)?;
    sources.retain(|path| path.extension().is_some_and(|kind| kind == "wat"));
    let guest = |source: PathBuf| {
        let wasm = compile_if_text(&read(&source)?)
            .with_context(|| format!("compile {}", source.display()))?
            .into_owned();
        Ok(Entry::file(
            &format!("/{}.wasm", source.file_stem().unwrap_or_default().display()),
            wasm,
            0o644,
        ))
    };
    sources.into_iter().map(guest).collect()
}

/// Returns the paths in `folder`, sorted by name.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("list {}", folder.display());
    let entries = fs::read_dir(folder).with_context(context)?;
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .with_context(context)?;
    files.sort();
    Ok(files)
}

fn program(path: &str, file: &Path) -> Result<Entry> {
    Ok(Entry::file(path, read(file)?, 0o755))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("read {}", file.display()))
}

/// Returns the image's labels. They are equal in all builds of one version.
fn labels(title: &str, description: &str) -> BTreeMap<String, String> {
    let facts = [
        ("title", title),
        ("description", description),
        ("version", bundle::VERSION),
        ("licenses", env!("CARGO_PKG_LICENSE")),
        ("source", env!("CARGO_PKG_REPOSITORY")),
    ];
    facts
        .into_iter()
        .map(|(name, value)| (format!("org.opencontainers.image.{name}"), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str) -> String {
        fs::read_to_string(setup::repository().join(path)).unwrap()
    }

    #[test]
    fn dockerfiles_use_the_pinned_compiler_and_start_the_same_programs() {
        let pinned = text("rust-toolchain.toml");
        let pinned = pinned
            .lines()
            .find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"'))
            .unwrap();
        for (folder, program, user) in [
            ("operator", "wasmedge-operator", NONROOT),
            ("installer", "node-installer", ""),
        ] {
            let file = text(&format!("{folder}/Dockerfile"));
            assert!(file.contains(&format!("ARG RUST={pinned}\n")), "{folder}");
            assert!(
                file.ends_with(&format!("ENTRYPOINT [\"/{program}\"]\n")),
                "{folder}"
            );
            assert!(
                user.is_empty() || file.contains(&format!("USER {user}\n")),
                "{folder}"
            );
            let version = format!("/{program}:{}", bundle::VERSION);
            assert!(
                file.contains(&version),
                "{folder} names another version than {version}"
            );
        }
    }

    #[test]
    fn node_root_has_links_to_its_usr() {
        let certificates = Certificates {
            bundle: b"x".to_vec(),
            copyright: b"x".to_vec(),
            packages: Vec::new(),
        };
        let image = LayeredImage {
            reference: "registry.example/app:1".to_owned(),
            layers: vec![FileLayer {
                files: certificates.into_base(),
                compression: Compression::None,
            }],
            ..LayeredImage::default()
        };
        let packed = image.pack().unwrap();
        let layer = String::from_utf8_lossy(packed.blobs()[1].bytes()).into_owned();
        for name in ["bin", "lib", "lib64", "sbin"] {
            assert!(
                layer.contains(&format!("host/{name}\0"))
                    && layer.contains(&format!("usr/{name}\0")),
                "{name}"
            );
        }
    }
}
