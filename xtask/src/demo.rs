//! `cargo xtask demo`: runs an OCI-packaged Wasm image on a private containerd, and removes
//! everything afterwards. `--kind` runs README.md's tour on a cluster instead.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use testbed::cache::Cache;
use testbed::containerd::{Containerd, Form, Install};
use testbed::image::{self, Artifact, Packed, RootfsImage, Transport};
use testbed::isolated_namespace::{IsolatedNamespace, Lifetime, NamespaceOptions, Network};
use testbed::progress::{self, step};
use testbed::teardown::Run;
use testbed::{examples, requirements};

use crate::{bundle, kind, setup};

mod guest_output;

/// The name of the image that the demo packs.
const REFERENCE: &str = "localhost/demo:latest";
/// The name of the demo's container.
const CONTAINER: &str = "demo";

/// Runs an OCI-packaged Wasm image on a containerd of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Packs the guest as a CNCF Wasm artifact instead of an image with a root file system
    #[arg(long, conflicts_with = "image")]
    artifact: bool,
    /// Runs this image, pulled from its registry; words after it replace the image's whole command
    /// line
    #[arg(long, value_name = "REF")]
    image: Option<String>,
    /// Which containerd: Debian's, or the newest, built from its Go module
    #[arg(long, value_enum)]
    containerd: Option<Choice>,
    /// Runs README's tour on a kind cluster instead, with the operator and all
    #[arg(long, conflicts_with_all = ["artifact", "image", "containerd", "guest"])]
    kind: bool,
    /// A WebAssembly file of your own (binary or text), and its arguments [default: examples/hello]
    #[arg(
        value_name = "FILE.wasm [ARGS]",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    guest: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Choice {
    Debian,
    Current,
}

/// The origin of the image.
#[derive(Debug)]
enum Source {
    /// Packed here, then imported.
    Packed(Box<Packed>),
    /// Pulled from a registry.
    Registry(String),
}

impl Source {
    fn reference(&self) -> String {
        match self {
            Self::Packed(packed) => packed.reference(),
            Self::Registry(reference) => reference.clone(),
        }
    }
}

/// The image to run and its command line; an empty one means the image's own.
#[derive(Debug)]
struct Subject {
    source: Source,
    form: Form,
    words: Vec<String>,
    stdin: guest_output::Input,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    requirements::require_root_and_kernel("demo")?;
    if args.kind {
        return kind::demo().map(|()| ExitCode::SUCCESS);
    }
    let started = Instant::now();
    let cache = Cache::open()?;
    let install = choose(args, &cache)?;
    let subject = subject(args, &cache)?;
    let bundle = bundle::build(&cache)?;
    if subject.form == Form::Artifact {
        setup::executable("create-container")?;
    }

    let run = Run::start("demo")?;
    let containerd = step(
        format_args!("started containerd {}", install.version),
        || {
            let isolated = IsolatedNamespace::start(
                &run,
                NamespaceOptions {
                    network: Network::Host,
                    lifetime: Lifetime::Process,
                },
            )?;
            let shims = bundle.launcher();
            Containerd::start(
                &run,
                &isolated,
                &install,
                &[shims.parent().context("the launcher lies in no folder")?],
            )
        },
    )?;
    fetch(&run, &containerd, &subject.source)?;
    let container = containerd
        .container(&subject.source.reference(), CONTAINER)
        .form(subject.form)
        .args(subject.words);
    let code = guest_output::show(&container, subject.stdin)?;
    step(
        "removed containerd, its folders and everything else",
        || run.finish(),
    )?;
    progress::print_line(format_args!(
        "{} {}",
        in_words(code),
        progress::seconds(started.elapsed())
    ));
    Ok(ExitCode::from(code))
}

/// Chooses the containerd: Debian's, which needs no Go, unless it cannot do what was requested.
fn choose(args: &Args, cache: &Cache) -> Result<Install> {
    if args.containerd == Some(Choice::Current) {
        return Install::current(cache);
    }
    let debian = Install::debian(cache)?;
    if !args.artifact || debian.takes_artifacts()? {
        return Ok(debian);
    }
    if args.containerd == Some(Choice::Debian) {
        bail!(
            "containerd {} takes no Wasm artifacts (1.6.25, 1.7.7 and 2.0 do): leave out \
             `--containerd debian`",
            debian.version
        );
    }
    progress::print_line(format_args!(
        "containerd {} takes no Wasm artifacts: this runs on the newest, built from its Go module",
        debian.version
    ));
    Install::current(cache)
}

fn subject(args: &Args, cache: &Cache) -> Result<Subject> {
    if let Some(reference) = &args.image {
        let source = Source::Registry(reference.clone());
        return Ok(Subject {
            source,
            form: Form::Image,
            words: args.guest.clone(),
            stdin: guest_output::Input::Ours,
        });
    }
    let (file, rest, stdin) = match args.guest.split_first() {
        Some((file, rest)) => (PathBuf::from(file), rest, guest_output::Input::Ours),
        None => (hello(cache)?, &[][..], guest_output::Input::Nothing),
    };
    let packed = step(
        format_args!("packed {} as {REFERENCE}", shown(&file)),
        || pack(&file, args.artifact),
    )?;
    let form = if args.artifact {
        Form::Artifact
    } else {
        Form::Image
    };
    let mut words = rest.to_vec();
    if form == Form::Artifact {
        // An artifact's configuration has no entrypoint, so argument 0 can be any text.
        words.insert(
            0,
            file.file_name()
                .unwrap_or(OsStr::new("guest.wasm"))
                .to_string_lossy()
                .into_owned(),
        );
    } else if !rest.is_empty() {
        words.insert(0, "/app.wasm".to_owned());
    }
    Ok(Subject {
        source: Source::Packed(Box::new(packed)),
        form,
        words,
        stdin,
    })
}

/// Compiles the guest of the simplest example.
fn hello(cache: &Cache) -> Result<PathBuf> {
    let hello = examples::ALL
        .iter()
        .find(|example| example.name == "hello")
        .context("there is no example named hello")?;
    hello.guest(cache)
}

/// Returns a file's name for progress lines: files in the cache are named by digests.
fn shown(file: &Path) -> String {
    match file.parent() {
        Some(folder) if folder.starts_with(examples::examples_folder()) => {
            file.display().to_string()
        }
        _ => file
            .file_name()
            .unwrap_or(file.as_os_str())
            .to_string_lossy()
            .into_owned(),
    }
}

fn pack(file: &Path, artifact: bool) -> Result<Packed> {
    let source = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let guest = image::compile_if_text(&source)
        .with_context(|| format!("read {}", file.display()))?
        .into_owned();
    image::classify(&guest).with_context(|| format!("{} cannot be packed", file.display()))?;
    let reference = REFERENCE.to_owned();
    if artifact {
        Artifact {
            reference,
            guest,
            ..Artifact::default()
        }
        .pack()
    } else {
        RootfsImage::of_guest(&reference, guest).pack()
    }
}

/// Imports or pulls the image into containerd.
fn fetch(run: &Run, containerd: &Containerd, source: &Source) -> Result<()> {
    match source {
        Source::Packed(packed) => step("imported the image", || {
            let archive = run.folder().join("image.tar");
            packed.write_archive(&archive)?;
            containerd.import(&archive)
        }),
        Source::Registry(reference) => step(format_args!("pulled {reference}"), || {
            let registry = image::registry_in(reference).context(
                "an image reference for containerd starts with its registry, as in \
                          ghcr.io/team/app:1",
            )?;
            let mut ctr = containerd.ctr().args(["images", "pull"]);
            if Transport::usual_for(&registry) == Transport::Http {
                ctr = ctr.arg("--plain-http");
            }
            ctr.arg(reference)
                .done()
                .with_context(|| format!("pull {reference}"))
        }),
    }
}

/// Explains a guest's exit code.
fn in_words(code: u8) -> String {
    match code {
        0 => "the guest succeeded (exit code 0)".to_owned(),
        126 => "the guest could not be started (exit code 126): see its output above".to_owned(),
        134 => "the guest trapped (exit code 134): see its output above".to_owned(),
        137 => "the guest was killed (exit code 137)".to_owned(),
        143 => "the guest was ended by SIGTERM (exit code 143)".to_owned(),
        code => format!("the guest itself ended with exit code {code}, so this command does too"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn arguments_after_the_file_belong_to_the_guest() {
        let line = Line::parse_from(["demo", "--artifact", "app.wasm", "--image", "x", "-v"]);
        assert!(line.args.artifact && line.args.image.is_none());
        assert_eq!(line.args.guest, ["app.wasm", "--image", "x", "-v"]);
    }

    #[test]
    fn tour_accepts_no_guest() {
        assert!(Line::parse_from(["demo", "--kind"]).args.kind);
        assert!(Line::try_parse_from(["demo", "--kind", "app.wasm"]).is_err());
    }

    #[test]
    fn default_is_the_hello_example_as_an_image() {
        let line = Line::parse_from(["demo"]);
        assert!(
            !line.args.artifact && line.args.guest.is_empty() && line.args.containerd.is_none()
        );
    }
}
