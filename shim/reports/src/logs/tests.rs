//! Tests of the logs on real FIFOs, and on a socket in place of the journal's.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt as _;

use super::line::{Fields, Line};
use super::*;

/// A folder for bundles, and logs without any bundle yet.
struct Scene {
    folder: tempfile::TempDir,
    logs: Logs,
    _default: tracing::subscriber::DefaultGuard,
}

impl Scene {
    fn new() -> Self {
        Self::with_journal(None)
    }

    /// Makes logs that get this thread's events.
    fn with_journal(journal: Option<Journal>) -> Self {
        let identity = Identity {
            runtime: "io.containerd.wasmedge.v1".to_owned(),
            namespace: "k8s.io".to_owned(),
        };
        let router = Arc::new(Router::new(identity, journal));
        let (filter, level) = reload::Layer::new(LevelFilter::INFO);
        let subscriber = tracing_subscriber::registry()
            .with(filter)
            .with(LineLayer::new(Arc::clone(&router)));
        let default = tracing::subscriber::set_default(subscriber);
        Self {
            folder: tempfile::tempdir().unwrap(),
            logs: Logs { router, level },
            _default: default,
        }
    }

    /// Creates the bundle of `container` and its FIFO, and opens the FIFO as containerd does.
    fn bundle(&self, container: &str) -> (PathBuf, File) {
        let bundle = self.folder.path().join(container);
        std::fs::create_dir(&bundle).unwrap();
        rustix::fs::mknodat(CWD, bundle.join("log"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let reader = File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(bundle.join("log"))
            .unwrap();
        (bundle, reader)
    }

    fn attached(&self, container: &str) -> File {
        let (bundle, reader) = self.bundle(container);
        self.logs.attach(container, &bundle);
        reader
    }
}

/// Reads the FIFO's content.
fn read(mut reader: &File) -> String {
    let mut text = Vec::new();
    // Ends with an error, because a writer could write more.
    reader.read_to_end(&mut text).unwrap_err();
    String::from_utf8(text).unwrap()
}

/// Removes the time from a line.
fn timeless(line: &str) -> &str {
    line.split_once("Z\" ").unwrap().1
}

#[test]
fn line_has_the_format_of_containerds_own_shims() {
    let mut fields = Fields::default();
    fields.set("message", "it said \"no\"\nand left".to_owned());
    fields.set("pod", "default/web".to_owned());
    fields.set("error", "C:\\ \u{1b}[0m".to_owned());
    fields.set("empty", String::new());
    let line = Line::at(
        "2026-01-02T03:04:05.678901Z".to_owned(),
        Level::WARN,
        fields,
    );
    let expected = concat!(
        r#"time="2026-01-02T03:04:05.678901Z" level=warning msg="it said \"no\"\nand left" "#,
        r#"empty="" error="C:\\ \u001b[0m" pod=default/web"#,
        "\n"
    );
    assert_eq!(String::from_utf8(line.logfmt()).unwrap(), expected);
}

#[test]
fn long_line_keeps_its_fields_and_fits_into_a_fifo_at_once() {
    let mut fields = Fields::default();
    fields.set("message", "ä".repeat(5000));
    fields.set("container", "c".to_owned());
    let text = String::from_utf8(Line::now(Level::INFO, fields.clone()).logfmt()).unwrap();
    assert!(text.ends_with("…\" container=c\n"), "{text}");
    fields.set("stack", "x".repeat(5000));
    assert_eq!(Line::now(Level::INFO, fields).logfmt().len(), 4096);
}

#[test]
fn line_about_a_container_has_pod_and_guest_and_goes_to_its_bundle() {
    let scene = Scene::new();
    let (one, two) = (scene.attached("one"), scene.attached("two"));
    scene.logs.describe(
        "one",
        ContainerInfo {
            pod: Some("default/web".to_owned()),
            guest: None,
        },
    );
    scene.logs.describe(
        "one",
        ContainerInfo {
            pod: None,
            guest: Some("sha256:1234".to_owned()),
        },
    );
    tracing::info!(container = "one", pid = 42, "created");
    assert_eq!(
        timeless(&read(&one)),
        "level=info msg=\"created\" container=one guest=\"sha256:1234\" namespace=k8s.io pid=42 \
         pod=default/web \
         runtime=io.containerd.wasmedge.v1\n"
    );
    assert_eq!(read(&two), "");
}

#[test]
fn line_belongs_to_the_container_of_the_span_around_it() {
    let scene = Scene::new();
    let (one, _two) = (scene.attached("one"), scene.attached("two"));
    let span = tracing::info_span!("request", container = tracing::field::Empty, verb = "kill");
    span.record("container", "one");
    span.in_scope(|| {
        tracing::info_span!("inner", step = 2)
            .in_scope(|| tracing::error!(verb = "kill again", "failed"));
    });
    let text = read(&one);
    assert!(
        text.contains("level=error msg=\"failed\" container=one"),
        "{text}"
    );
    assert!(text.contains("step=2 verb=\"kill again\""), "{text}");
}

#[test]
fn error_is_written_with_its_causes() {
    #[derive(Debug)]
    struct Outer(std::fmt::Error);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("outer")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let scene = Scene::new();
    let reader = scene.attached("one");
    let error = Outer(std::fmt::Error);
    tracing::error!(
        error = &error as &(dyn std::error::Error + 'static),
        "cannot"
    );
    let text = read(&reader);
    assert!(
        text.contains(&format!("error=\"outer: {}\"", std::fmt::Error)),
        "{text}"
    );
}

#[test]
fn line_without_container_goes_to_the_newest_attached_bundle() {
    let scene = Scene::new();
    let (one, two) = (scene.attached("one"), scene.attached("two"));
    tracing::info!("first");
    scene.logs.detach("two");
    tracing::info!(container = "two", "second");
    assert_eq!(
        timeless(&read(&two)),
        "level=info msg=\"first\" namespace=k8s.io runtime=io.containerd.wasmedge.v1\n"
    );
    assert!(read(&one).contains("msg=\"second\" container=two"));
}

#[test]
fn lines_without_any_bundle_wait_for_the_next() {
    let scene = Scene::new();
    for number in 0..=EARLY_LINE_CAPACITY {
        tracing::info!(number, "early");
    }
    let reader = scene.attached("one");
    tracing::info!("late");
    let text = read(&reader);
    assert_eq!(text.lines().count(), EARLY_LINE_CAPACITY + 1);
    assert!(
        text.lines().next().unwrap().contains("number=1 ")
            && text.lines().last().unwrap().contains("late"),
        "{text}"
    );
}

#[test]
fn bundle_without_log_fifo_is_not_reported_and_does_no_harm() {
    let scene = Scene::new();
    let one = scene.attached("one");
    scene
        .logs
        .attach("two", &scene.folder.path().join("nowhere"));
    tracing::info!(container = "two", "created");
    let text = read(&one);
    assert!(
        timeless(&text).starts_with("level=info msg=\"created\" container=two"),
        "{text}"
    );
    assert!(
        !scene.folder.path().join("nowhere").exists(),
        "the FIFO is containerd's to make"
    );
}

#[test]
fn unusable_log_fifo_is_reported() {
    let scene = Scene::new();
    let one = scene.attached("one");
    let bundle = scene.folder.path().join("two");
    std::fs::create_dir(&bundle).unwrap();
    std::fs::write(bundle.join("log"), "no FIFO").unwrap();
    scene.logs.attach("two", &bundle);
    let text = read(&one);
    assert!(
        text.contains("level=warning") && text.contains("cannot open"),
        "{text}"
    );
}

#[test]
fn unread_fifo_does_not_block_and_dropped_lines_are_counted() {
    let scene = Scene::new();
    let reader = scene.attached("one");
    for number in 0..2000 {
        tracing::info!(
            number,
            "a line that is long enough to fill the FIFO before they are all written"
        );
    }
    let kept = read(&reader).lines().count();
    assert!((100..2000).contains(&kept), "{kept}");
    tracing::info!("read again");
    let text = read(&reader);
    assert!(
        text.lines()
            .next()
            .unwrap()
            .contains(&format!("dropped={}", 2000 - kept)),
        "{text}"
    );
    assert!(
        text.lines().nth(1).unwrap().contains("read again"),
        "{text}"
    );
}

#[test]
fn level_can_be_changed_at_run_time() {
    let scene = Scene::new();
    let reader = scene.attached("one");
    tracing::debug!("not yet");
    scene.logs.set_level(LevelFilter::DEBUG);
    tracing::debug!("now");
    scene.logs.set_level(LevelFilter::ERROR);
    tracing::info!("no more");
    assert!(timeless(&read(&reader)).starts_with("level=debug msg=\"now\""));
}

#[test]
fn journal_gets_each_line_as_fields() {
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().join("socket");
    let journal = UnixDatagram::bind(&address).unwrap();
    let scene = Scene::with_journal(Some(Journal::at(&address).unwrap()));
    let _reader = scene.attached("one");
    scene.logs.describe(
        "one",
        ContainerInfo {
            pod: Some("default/web".to_owned()),
            guest: Some("sha256:1234".to_owned()),
        },
    );
    tracing::error!(container = "one", exit_code = 134, "two\nlines");
    let mut datagram = [0; 4096];
    let length = journal.recv(&mut datagram).unwrap();
    let expected = concat!(
        "PRIORITY=3\nSYSLOG_IDENTIFIER=containerd-shim-wasmedge\nMESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\n",
        "CONTAINER_ID=one\nEXIT_CODE=134\nPOD=default/web\nGUEST_DIGEST=sha256:1234\n",
        "CONTAINERD_RUNTIME=io.containerd.wasmedge.v1\nCONTAINERD_NAMESPACE=k8s.io\n"
    );
    assert_eq!(String::from_utf8_lossy(&datagram[..length]), expected);
}

#[test]
fn stuck_or_missing_journal_does_not_block() {
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().join("socket");
    let journal = UnixDatagram::bind(&address).unwrap();
    let _scene = Scene::with_journal(Some(Journal::at(&address).unwrap()));
    for number in 0..2000 {
        tracing::info!(number, "not read");
    }
    drop(journal);
    tracing::info!("no journal");
    std::fs::remove_file(&address).unwrap();
    let journal = UnixDatagram::bind(&address).unwrap();
    tracing::info!("back");
    let mut datagram = [0; 4096];
    let length = journal.recv(&mut datagram).unwrap();
    let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
    assert!(
        text.contains("MESSAGE=back\n") && text.contains("LINES_DROPPED="),
        "{text}"
    );
}

#[test]
fn journal_values_are_cut_to_fit_a_datagram() {
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().join("socket");
    let journal = UnixDatagram::bind(&address).unwrap();
    let _scene = Scene::with_journal(Some(Journal::at(&address).unwrap()));
    tracing::info!(_private = 1, "{}", "x".repeat(1_000_000));
    let mut datagram = vec![0; 100_000];
    let length = journal.recv(&mut datagram).unwrap();
    assert!(length < 20_000);
    assert!(String::from_utf8_lossy(&datagram).contains("\nFIELD__PRIVATE=1\n"));
}
