//! The vm class: the core of the node class in an emulated machine with systemd and cgroup v2.
//!
//! The tests are in the program `vm-inside`. All selected ones run in one machine, booted once;
//! each is reported as a test here. `cargo xtask test --class vm` prepares the artifacts and passes
//! their paths; without that, one test is reported as ignored, with the reason.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use test_guests::{HELLO, RECURSE};
use testbed::command;
use testbed::image::{Entry, RootfsImage};
use testbed::prepared::{Preparation, Prepared};
use testbed::progress;
use testbed::teardown::Run;
use testbed::vm::{Outcome, Part};

fn main() -> Result<ExitCode> {
    let args = Arguments::from_args();
    match Preparation::from_environment()? {
        Preparation::Missing(reason) => {
            let ignored =
                Trial::ignorable_test("the_core_of_the_node_class_on_cgroup_v2", move || {
                    Ok(Completion::ignored_with(reason))
                });
            Ok(libtest_mimic::run(&args, vec![ignored]).exit_code())
        }
        Preparation::Done(prepared) => in_a_machine(&args, &prepared),
    }
}

fn in_a_machine(args: &Arguments, prepared: &Prepared) -> Result<ExitCode> {
    let names = command::Run::new(&prepared.vm()?.inside)
        .arg("names")
        .text()?;
    let wanted = names
        .lines()
        .filter(|name| !args.list && !args.is_filtered_out(&Trial::test(*name, || Ok(()))));
    let wanted = wanted.collect::<Vec<_>>().join("\n");
    let mut outcomes = HashMap::new();
    if !wanted.is_empty() {
        let run = Run::start("vm")?;
        let report = prepared
            .vm()?
            .machine
            .boot(&run, &parts(&run, prepared, &wanted)?)?;
        run.finish()?;
        outcomes = report
            .outcomes
            .into_iter()
            .map(|outcome| (outcome.name.clone(), outcome))
            .collect();
    }
    let trial = |name: &str| {
        let outcome = outcomes.remove(name);
        Trial::test(name, move || test_result(outcome))
    };
    Ok(libtest_mimic::run(args, names.lines().map(trial).collect()).exit_code())
}

fn test_result(outcome: Option<Outcome>) -> Result<(), Failed> {
    let outcome = outcome.ok_or("the machine did not run it")?;
    progress::print_line(format_args!(
        "  {} took {}",
        outcome.name,
        progress::seconds(outcome.took).trim_matches(['(', ')'])
    ));
    outcome
        .failure
        .map_or(Ok(()), |failure| Err(failure.into()))
}

/// Returns the parts on the machine's second disk.
fn parts(run: &Run, prepared: &Prepared, wanted: &str) -> Result<Vec<Part>> {
    let folder = run.disk_folder()?.join("made");
    let read = |file: &Path| fs::read(file).with_context(|| format!("read {}", file.display()));
    let (probe, native) = (
        read(&prepared.guests.probe)?,
        read(&prepared.guests.native)?,
    );
    // The containers' files: as a folder, and as an image.
    let files = [
        ("app.wasm", 0o644, probe),
        ("hello.wasm", 0o644, HELLO.bytes().into_owned()),
        ("recurse.wasm", 0o644, RECURSE.bytes().into_owned()),
        ("native", 0o755, native),
    ];
    for (name, mode, bytes) in &files {
        let file = write(&folder.join("root"), name, bytes)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(*mode))
            .with_context(|| format!("set the rights of {}", file.display()))?;
    }
    let images = folder.join("images");
    fs::create_dir_all(&images).with_context(|| format!("make {}", images.display()))?;
    let entries = files
        .map(|(name, mode, bytes)| Entry::file(&format!("/{name}"), bytes, mode))
        .to_vec();
    let image = |reference: &str, program: &str, files| {
        let (reference, entrypoint) = (reference.to_owned(), vec![program.to_owned()]);
        RootfsImage {
            reference,
            entrypoint,
            files,
            ..RootfsImage::default()
        }
        .pack()
    };
    image("registry.test/mixed:1", "/app.wasm", entries)?
        .write_archive(&images.join("mixed.tar"))?;
    // Its program is never run: the host holds pods itself.
    image("localhost/pause:1", "/nothing", Vec::new())?.write_archive(&images.join("pause.tar"))?;
    let containerd = prepared
        .containerds
        .iter()
        .find(|install| install.name == "current")
        .context("no pinned containerd was built")?;
    Ok(vec![
        Part::new("runtime", &prepared.bundle),
        Part::new("bin", &containerd.bin),
        Part::new("bin/vm-inside", &prepared.vm()?.inside),
        Part::new("root", folder.join("root")),
        Part::new("images", images),
        Part::new("wanted", write(&folder, "wanted", wanted.as_bytes())?),
    ])
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let file = folder.join(name);
    fs::write(&file, bytes).with_context(|| format!("write {}", file.display()))?;
    Ok(file)
}
