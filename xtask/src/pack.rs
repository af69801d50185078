//! `cargo xtask pack`: packs a guest as a CNCF Wasm artifact or an image, and writes an OCI layout
//! or pushes it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use testbed::image::{
    Artifact, Binary, Credentials, Packed, Registry, RootfsImage, Transport, classify,
    compile_if_text, registry_in,
};
use testbed::progress::print_line;

/// Packs a WebAssembly file for a registry: as a CNCF Wasm artifact, or as an ordinary image.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The guest: a module or component, binary or text (.wat).
    file: PathBuf,
    /// Where it goes: a folder (it exists, or begins with `./` or `/`) for an OCI layout, a `.tar`
    /// file for an OCI archive, or a reference with its registry, such as
    /// `registry.example/team/app:1`, to push to.
    #[arg(short, long, value_name = "DIR|FILE.tar|REF")]
    output: String,
    /// Make a CNCF Wasm artifact (the default): its one layer is the guest itself.
    #[arg(long, conflicts_with = "image")]
    artifact: bool,
    /// Make an ordinary Linux image with the guest as `/app.wasm` and entrypoint.
    #[arg(long)]
    image: bool,
    /// The image's name within a layout or archive, as containerd imports it [default:
    /// localhost/<file's stem>:latest].
    #[arg(long, value_name = "REF")]
    name: Option<String>,
    /// Speak plain HTTP to the registry. That is the default for registries on this machine.
    #[arg(long)]
    plain_http: bool,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args {
        file,
        output: target,
        artifact: _,
        image,
        name,
        plain_http,
    } = args;
    let output = Output::of(&target, Path::new(&target).is_dir())?;
    let reference = reference(&file, name, target, &output)?;
    let source = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    let guest = compile_if_text(&source).with_context(|| format!("read {}", file.display()))?;
    let binary =
        classify(&guest).with_context(|| format!("{} cannot be packed", file.display()))?;
    print_line(format_args!(
        "{} is a {binary} of {} bytes",
        file.display(),
        guest.len()
    ));
    if binary == Binary::Component {
        print_line(
            "  WasmEdge runs modules: a pod of this component is refused when it is created",
        );
    }
    let packed = if image {
        RootfsImage::of_guest(&reference, guest).pack()?
    } else {
        Artifact {
            reference,
            guest: guest.into_owned(),
            ..Artifact::default()
        }
        .pack()?
    };
    match &output {
        Output::Folder(folder) => packed.write_layout(folder)?,
        Output::Archive(file) => packed.write_archive(file)?,
        Output::Registry(registry) => {
            let transport = if plain_http {
                Transport::Http
            } else {
                Transport::usual_for(registry)
            };
            packed.push(&Registry {
                transport,
                credentials: Credentials::of_docker(registry)?,
            })?;
        }
    }
    report(&packed, &output);
    Ok(())
}

/// The destination of the result.
#[derive(Debug, PartialEq, Eq)]
enum Output {
    Folder(PathBuf),
    Archive(PathBuf),
    /// The registry of the given reference.
    Registry(String),
}

impl Output {
    /// Decides by the typed text and by whether it is an existing folder.
    fn of(text: &str, is_folder: bool) -> Result<Self> {
        let is_path = [".", "/", "~"].iter().any(|start| text.starts_with(start));
        let is_archive = Path::new(text)
            .extension()
            .is_some_and(|kind| kind == "tar");
        if is_folder {
            return Ok(Self::Folder(text.into()));
        }
        match registry_in(text) {
            Some(registry) if !is_path => Ok(Self::Registry(registry)),
            _ if is_archive => Ok(Self::Archive(text.into())),
            _ if is_path || text.ends_with('/') => Ok(Self::Folder(text.into())),
            _ => bail!(
                "{text:?} is ambiguous: write ./{text} for a folder, or a reference that \
                 begins with its registry \
                 (registry.example/{text})"
            ),
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "wrote the OCI layout {}", folder.display()),
            Self::Archive(file) => write!(f, "wrote the OCI archive {}", file.display()),
            Self::Registry(registry) => write!(f, "pushed to {registry}"),
        }
    }
}

/// Returns the name of the packed image: the given one, or one from the guest's file name.
fn reference(file: &Path, name: Option<String>, target: String, output: &Output) -> Result<String> {
    match (output, name) {
        (Output::Registry(_), None) => Ok(target),
        (Output::Registry(_), Some(_)) => {
            bail!("--name is for layouts and archives: a push is named by its reference")
        }
        (_, Some(name)) => Ok(name),
        (_, None) => {
            let stem = file
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .to_lowercase();
            let stem = stem.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
            let stem = stem.trim_matches('-');
            if stem.is_empty() {
                bail!(
                    "{} is not usable as an image's name: add --name REF",
                    file.display()
                );
            }
            Ok(format!("localhost/{stem}:latest"))
        }
    }
}

fn report(packed: &Packed, output: &Output) {
    print_line(format_args!("{output}"));
    print_line(format_args!("  name    {}", packed.reference()));
    print_line(format_args!("  digest  {}", packed.root().digest()));
    print_line(format_args!("  size    {} bytes", packed.size()));
    for blob in std::iter::once(packed.root()).chain(packed.blobs()) {
        print_line(format_args!(
            "  {} {} ({} bytes)",
            blob.digest(),
            blob.media_type(),
            blob.bytes().len()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_of_output_follows_from_its_form() {
        for (text, expected) in [
            ("./out", Output::Folder("./out".into())),
            ("/tmp/out", Output::Folder("/tmp/out".into())),
            ("out/", Output::Folder("out/".into())),
            ("out.tar", Output::Archive("out.tar".into())),
            (
                "./registry.example/out.tar",
                Output::Archive("./registry.example/out.tar".into()),
            ),
            (
                "localhost:5000/app:1",
                Output::Registry("localhost:5000".into()),
            ),
            (
                "registry.example/team/app",
                Output::Registry("registry.example".into()),
            ),
        ] {
            assert_eq!(Output::of(text, false).unwrap(), expected, "{text}");
        }
        assert_eq!(
            Output::of("out", true).unwrap(),
            Output::Folder("out".into())
        );
    }

    #[test]
    fn ambiguous_output_is_refused_with_both_forms() {
        for text in ["out", "team/app:1"] {
            let error = Output::of(text, false).unwrap_err().to_string();
            assert!(
                error.contains(&format!("./{text}")) && error.contains("registry.example"),
                "{error}"
            );
        }
    }
}
