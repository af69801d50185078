//! The table of fields: complete, true, and equal to the reference page.

use std::collections::BTreeSet;

use super::*;

/// The page's path, from this crate's folder.
const PAGE: &str = "../../docs/reference/oci-spec.md";

/// Returns a spec with every field that the crate `oci-spec` knows for Linux, and each other
/// platform by name.
fn every_field() -> Value {
    serde_json::from_str(include_str!("every_field.json")).unwrap()
}

/// Collects the paths of all fields below `value`.
fn fields(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                fields(
                    member,
                    &if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    },
                    found,
                );
            }
        }
        Value::Array(items) if items.first().is_some_and(Value::is_object) => {
            fields(&items[0], &format!("{path}[]"), found);
        }
        _ => drop(found.insert(path.to_owned())),
    }
}

/// Returns whether `field` is `whole` or a part of it.
fn lies_in(field: &str, whole: &str) -> bool {
    field
        .strip_prefix(whole)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[test]
fn every_known_field_has_a_row() {
    let mut all = BTreeSet::new();
    fields(&every_field(), "", &mut all);
    for field in &all {
        assert!(
            ROWS.iter().any(|row| lies_in(field, row.field)),
            "{field} has no row"
        );
    }
    for row in ROWS {
        assert!(
            all.iter().any(|field| lies_in(field, row.field)),
            "there is no field {}",
            row.field
        );
    }
}

#[test]
fn every_field_of_the_crate_is_in_the_spec_of_all_fields() {
    let mut spec: Spec = serde_json::from_value(every_field()).unwrap();
    // Other platforms are refused as a whole.
    spec.set_windows(None)
        .set_vm(None)
        .set_solaris(None)
        .set_zos(None);
    let unset: Vec<_> = format!("{spec:#?}")
        .lines()
        .filter(|line| line.ends_with(": None,"))
        .map(|line| line.trim().to_owned())
        .collect();
    // The last two are fields of the crate that the runtime spec does not have.
    let known = [
        "solaris: None,",
        "windows: None,",
        "vm: None,",
        "zos: None,",
        "uid_mappings: None,",
        "gid_mappings: None,",
    ];
    assert_eq!(
        unset, known,
        "the crate knows fields that `every_field` does not set"
    );
}

/// Returns an example for each refusal: the row's field, a spec, the field that the message names.
#[expect(clippy::too_many_lines, reason = "one table")]
fn refusals() -> Vec<(&'static str, Value, &'static str)> {
    let mapping = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
    let mount = |says: Value| {
        let mut mount = json!({"destination": "/a", "type": "bind", "source": "/a"});
        merge(&mut mount, says);
        json!({"mounts": [mount]})
    };
    let process = |says: Value| json!({"process": says});
    let linux = |says: Value| json!({"linux": says});
    let hook = |name: &str| json!({"hooks": {name: [{"path": "/bin/hook"}]}});
    vec![
        (
            "mounts[].destination",
            mount(json!({"destination": "/"})),
            "mounts[0].destination",
        ),
        (
            "mounts[].type",
            mount(json!({"type": "nfs"})),
            "mounts[0].type",
        ),
        (
            "mounts[].type",
            mount(json!({"type": "proc", "destination": "/other"})),
            "mounts[0].type",
        ),
        (
            "mounts[].type",
            mount(json!({"type": "overlay"})),
            "mounts[0].type",
        ),
        (
            "mounts[].options",
            mount(json!({"options": ["sync"]})),
            "mounts[0].options",
        ),
        (
            "mounts[].options",
            mount(json!({"options": ["remount"]})),
            "mounts[0].options",
        ),
        (
            "mounts[].options",
            mount(json!({"options": ["size=1m"]})),
            "mounts[0].options",
        ),
        (
            "mounts[].options",
            mount(json!({"type": "tmpfs", "options": ["tmpcopyup"]})),
            "mounts[0].options",
        ),
        (
            "mounts[].options",
            mount(json!({"options": ["idmap"]})),
            "mounts[0].options",
        ),
        (
            "mounts[].options",
            mount(json!({"type": "tmpfs", "destination": "/dev", "options": ["ro"]})),
            "mounts[0].options",
        ),
        (
            "mounts[].uidMappings",
            mount(json!({"uidMappings": mapping})),
            "mounts[0].uidMappings",
        ),
        (
            "mounts[].gidMappings",
            mount(json!({"gidMappings": mapping})),
            "mounts[0].gidMappings",
        ),
        (
            "mounts[].uidMappings",
            mount(json!({"type": "tmpfs", "uidMappings": mapping})),
            "mounts[0].uidMappings",
        ),
        (
            "linux.uidMappings",
            linux(json!({"uidMappings": mapping})),
            "linux.uidMappings",
        ),
        (
            "linux.gidMappings",
            linux(json!({"gidMappings": mapping})),
            "linux.gidMappings",
        ),
        (
            "linux.timeOffsets",
            linux(json!({"timeOffsets": {"boottime": {"secs": 1}}})),
            "linux.timeOffsets",
        ),
        (
            "linux.netDevices",
            linux(json!({"netDevices": {"eth0": {}}})),
            "linux.netDevices",
        ),
        (
            "linux.personality",
            linux(json!({"personality": {"domain": "LINUX32"}})),
            "linux.personality.domain",
        ),
        (
            "linux.personality",
            linux(json!({"personality": {"domain": "LINUX", "flags": ["a"]}})),
            "linux.personality.flags",
        ),
        (
            "linux.memoryPolicy",
            linux(json!({"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0"}})),
            "linux.memoryPolicy",
        ),
        (
            "linux.intelRdt",
            linux(json!({"intelRdt": {"closID": "a"}})),
            "linux.intelRdt",
        ),
        (
            "process.user.username",
            process(json!({"user": {"username": "a"}})),
            "process.user.username",
        ),
        (
            "process.commandLine",
            process(json!({"commandLine": "a"})),
            "process.commandLine",
        ),
        (
            "process.ioPriority",
            process(json!({"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 1}})),
            "process.ioPriority",
        ),
        (
            "process.scheduler",
            process(json!({"scheduler": {"policy": "SCHED_BATCH"}})),
            "process.scheduler",
        ),
        (
            "process.execCPUAffinity",
            process(json!({"execCPUAffinity": {"initial": "0"}})),
            "process.execCPUAffinity",
        ),
        ("hooks.prestart", hook("prestart"), "hooks.prestart"),
        (
            "hooks.createRuntime",
            hook("createRuntime"),
            "hooks.createRuntime",
        ),
        (
            "hooks.createContainer",
            hook("createContainer"),
            "hooks.createContainer",
        ),
        (
            "hooks.startContainer",
            hook("startContainer"),
            "hooks.startContainer",
        ),
        ("hooks.poststart", hook("poststart"), "hooks.poststart"),
        ("hooks.poststop", hook("poststop"), "hooks.poststop"),
        ("solaris", json!({"solaris": {}}), "solaris"),
        (
            "windows",
            json!({"windows": {"layerFolders": []}}),
            "windows",
        ),
        ("vm", json!({"vm": {"kernel": {"path": "/a"}}}), "vm"),
        ("zos", json!({"zos": {}}), "zos"),
    ]
}

#[test]
fn unsupported_fields_are_refused_by_name() {
    let here = "unsupported_fields_are_refused_by_name";
    for (row, says, names) in refusals() {
        assert_eq!(refusal(says).0, names);
        assert!(
            ROWS.iter()
                .any(|known| known.field == row && known.handling == Handling::Refused),
            "{row} is not refused in the table"
        );
    }
    for row in ROWS.iter().filter(|row| row.tests.contains(&here)) {
        assert!(
            refusals().iter().any(|(field, ..)| *field == row.field),
            "{} has no example",
            row.field
        );
    }
}

#[test]
fn empty_fields_are_not_refused() {
    let nothing = json!({
        "hooks": {"prestart": []},
        "mounts": [{"destination": "/a", "type": "bind", "source": "/a", "uidMappings": []}],
        "linux": {"uidMappings": [], "timeOffsets": {}, "netDevices": {}},
        "process": {"execCPUAffinity": {}},
    });
    assert_eq!(plan(nothing).mounts.len(), 1);
}

/// Collects the names of all functions in the sources below `folder`.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.extend(
                text.lines().filter_map(|line| {
                    Some(line.split_once("fn ")?.1.split_once('(')?.0.to_owned())
                }),
            );
        }
    }
}

#[test]
fn every_row_has_a_test_that_exists() {
    let mut found = BTreeSet::new();
    // Tests of the host, of the crates beside this one, and of the test environment count too.
    functions(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
        &mut found,
    );
    functions(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/testbed/tests/node"),
        &mut found,
    );
    for row in ROWS {
        assert!(!row.tests.is_empty(), "{} has no test", row.field);
        for test in row.tests {
            assert!(
                found.contains(*test),
                "{}: there is no test {test}",
                row.field
            );
        }
    }
}

fn page() -> String {
    let head = "<!-- Generated from `shim/sandbox/src/plan/rows.rs`: change it there, then \
                run\n     \
         `UPDATE_REFERENCE=1 cargo test --package guest-sandbox --lib \
         reference_page_matches_the_table`. -->\n\n\
         # The OCI runtime spec and guests\n\n\
         The handling of each field of the OCI runtime spec (`config.json`) by a guest's sandbox.
A refused field fails the creation of the container, and the message names the field. A field of a
spec newer than 1.3 is ignored. libcontainer sets up native containers of the same pod; this page is
not about them.

| field | values | handling | how | tests |\n|---|---|---|---|---|\n";
    let row = |SpecField {
                   field,
                   values,
                   handling,
                   how,
                   tests,
               }: &SpecField| {
        let tests = tests
            .iter()
            .map(|test| format!("`{test}`"))
            .collect::<Vec<_>>()
            .join(", ");
        format!("| `{field}` | {values} | {handling} | {how} | {tests} |\n")
    };
    std::iter::once(head.to_owned())
        .chain(ROWS.iter().map(row))
        .collect()
}

#[test]
fn reference_page_matches_the_table() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&file, page()).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap();
    assert_eq!(
        found,
        page(),
        "{} differs from ROWS: its first lines name the command that writes it",
        file.display()
    );
}
