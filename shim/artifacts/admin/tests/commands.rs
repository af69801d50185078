//! Rules of the administrator's command, on a store of the test. They need root.
#![expect(
    clippy::unwrap_used,
    reason = "clippy takes the test's own functions for product code"
)]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use artifact_store::{
    ARTIFACT, Artifact, DraftSpace, EngineName, Failed, Key, KeyInputs, Made, Percent,
    Sha256Digest, Store, StoreOptions, Tier,
};
use rustix::fs::{Mode, OFlags, openat};
use serde_json::Value;
use tempfile::TempDir;

struct Fixture {
    store: Store,
    root: PathBuf,
    _folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("artifacts");
        let options = StoreOptions {
            folder: root.clone(),
            max_bytes: 1 << 30,
            max_disk_share: Percent::WHOLE,
        };
        Self {
            store: Store::open(options).unwrap(),
            root,
            _folder: folder,
        }
    }

    fn publish(&self, module: &str, bytes: usize) -> Artifact {
        let inputs = inputs(module);
        let lock = self.store.lock(&inputs.key()).unwrap();
        let space = DraftSpace {
            max_bytes: 1 << 24,
            uid: 0,
            gid: 0,
        };
        let draft = self.store.draft(&lock, space).unwrap();
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let file = openat(draft.folder(), ARTIFACT, flags, Mode::RUSR).unwrap();
        File::from(file).write_all(&vec![7; bytes]).unwrap();
        let made = Made {
            inputs,
            module_name: format!("registry/{module}:1"),
            compile_cpu_ms: 1,
            compile_peak_bytes: 1,
        };
        self.store.publish(lock, draft, made).unwrap()
    }

    fn fail(&self, module: &str) {
        let inputs = inputs(module);
        let lock = self.store.lock(&inputs.key()).unwrap();
        let failed = Failed {
            inputs,
            module_name: format!("registry/{module}:1"),
            reason: "the compiler crashed".to_owned(),
        };
        self.store.remember_failure(&lock, failed).unwrap();
    }

    fn artifact(&self, key: Key) -> PathBuf {
        let entry = self.root.join("v1/entries").join(key.to_string());
        entry.join("code").join(ARTIFACT)
    }

    fn run(&self, words: &[&str]) -> Output {
        run(&self.root, words)
    }

    /// Runs a command that succeeds and returns what it prints.
    fn text(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.text(&[words, &["--json"]].concat())).unwrap()
    }
}

fn run(root: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_artifacts"))
        .args(words)
        .arg("--store")
        .arg(root)
        .output()
        .unwrap()
}

fn inputs(module: &str) -> KeyInputs {
    KeyInputs {
        module: Sha256Digest::of(module.as_bytes()),
        engine: EngineName::WasmEdge,
        version: "0.17.1+abc".to_owned(),
        tier: Tier::Baseline,
        target: "x86_64-unknown-linux-gnu".to_owned(),
        cpu: "Vendor/6/85 sse2".to_owned(),
        options: Vec::new(),
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
#[ignore = "needs root"]
fn list_shows_artifacts_and_failures_to_people_and_programs() {
    let fixture = Fixture::new();
    assert!(fixture.text(&["list"]).starts_with("0 artifacts"));
    let used = fixture.publish("used", 5000);
    fixture.fail("crash\u{1b}[2J");
    let text = fixture.text(&["list"]);
    let key = used.record().key.to_string();
    for part in [
        &key[..12],
        "yes",
        "wasmedge",
        "0.17.1+abc",
        "baseline",
        "registry/used:1",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(
        text.contains("the compiler crashed") && !text.contains('\u{1b}'),
        "{text}"
    );
    let json = fixture.json(&["list"]);
    let entry = &json["artifacts"][0];
    assert_eq!(
        (&entry["key"], &entry["inUse"]),
        (&key.into(), &true.into())
    );
    assert_eq!(entry["state"], "known");
    assert_eq!(entry["record"]["module_name"], "registry/used:1");
    assert_eq!(json["failures"][0]["reason"], "the compiler crashed");
}

#[test]
#[ignore = "needs root"]
fn verify_fails_for_a_damaged_artifact_and_changes_nothing() {
    let fixture = Fixture::new();
    let sound = fixture.publish("sound", 100).record().key;
    let damaged = fixture.publish("damaged", 100).record().key;
    assert!(
        fixture
            .text(&["verify"])
            .starts_with("2 verified, 0 damaged")
    );
    fs::write(fixture.artifact(damaged), vec![8; 100]).unwrap();
    let output = fixture.run(&["verify", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let verdict = |key: Key| {
        let all = json["artifacts"].as_array().unwrap().iter();
        let mut of_key = all.filter(|it| it["key"] == key.to_string());
        of_key.next().unwrap()["verdict"].clone()
    };
    assert_eq!(
        (verdict(sound), verdict(damaged)),
        ("sound".into(), "damaged".into())
    );
    assert!(fixture.artifact(damaged).exists());
    let one = fixture.text(&["verify", &sound.to_string()[..16]]);
    assert!(one.starts_with("1 verified, 0 damaged"), "{one}");
}

#[test]
#[ignore = "needs root"]
fn remove_spares_what_is_in_use_and_fails_for_what_is_unknown() {
    let fixture = Fixture::new();
    let used = fixture.publish("used", 100);
    let idle = fixture.publish("idle", 100).record().key;
    fixture.fail("failed");
    let used_key = used.record().key.to_string();
    let output = fixture.run(&["remove", &used_key, &idle.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("in use") && text.contains("removed"),
        "{text}"
    );
    assert!(!fixture.artifact(idle).exists() && fixture.artifact(used.record().key).exists());
    let failed = inputs("failed").key().to_string();
    fixture.text(&["remove", &failed]);
    assert!(fixture.store.failures().unwrap().is_empty());
    let output = fixture.run(&["remove", &failed]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("`artifacts list`"), "{output:?}");
}

#[test]
#[ignore = "needs root"]
fn gc_evicts_only_what_a_given_limit_does_not_allow() {
    let fixture = Fixture::new();
    drop(fixture.publish("idle", 2_000_000));
    let used = fixture.publish("used", 2_000_000);
    fs::create_dir(fixture.root.join("v1/drafts/left")).unwrap();
    let json = fixture.json(&["gc"]);
    assert_eq!(
        (&json["unfinished"], &json["evicted"]),
        (&1.into(), &serde_json::json!([]))
    );
    let json = fixture.json(&["gc", "--max-mib", "3"]);
    assert_eq!(json["evicted"][0]["key"], inputs("idle").key().to_string());
    let output = fixture.run(&["gc", "--max-mib", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(fixture.artifact(used.record().key).exists());
}

#[test]
#[ignore = "needs root"]
fn store_that_does_not_exist_is_not_made() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("artifacts");
    for words in [&["list"][..], &["gc"], &["verify"], &["remove", "abcd"]] {
        let output = run(&root, words);
        assert_eq!(output.status.code(), Some(1));
        assert!(errors(&output).contains("--store"), "{output:?}");
    }
    assert!(!root.exists());
}

#[test]
fn usage_error_has_a_code_of_its_own_and_help_succeeds() {
    let code = |words: &[&str]| run(Path::new("/nowhere"), words).status.code();
    assert_eq!(code(&["bake"]), Some(2));
    assert_eq!(code(&["remove"]), Some(2));
    assert_eq!(code(&["--help"]), Some(0));
}
