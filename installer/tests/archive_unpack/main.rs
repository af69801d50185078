//! Unpacking of valid, damaged and foreign archives, in temporary folders.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use installer_protocol::Reason;
use node_installer::unpack::{Damage, FolderChange, UnpackError, verify};

use crate::maker::{Fixture, Maker, Raw, TOP, mode, write};

#[cfg(test)]
mod maker;
#[cfg(test)]
mod hostile;

#[test]
fn archive_becomes_a_folder_named_by_version_and_digest() {
    let fixture = Fixture::new();
    let unpacked = fixture.make(&Maker::whole()).unwrap();
    assert_eq!(
        (unpacked.path, unpacked.version.as_str(), unpacked.change),
        (fixture.place(), "1.0.0", FolderChange::Made)
    );
    assert_eq!(fixture.names(), [unpacked.name]);
    assert_eq!(mode(&fixture.place()), 0o755);
    assert_eq!(
        mode(&fixture.place().join("bin/containerd-shim-wasmedge-v1")),
        0o755
    );
    assert_eq!(mode(&fixture.place().join("lib/libc.so.6")), 0o644);
    assert_eq!(
        fs::read_to_string(fixture.place().join("lib/libc.so")).unwrap(),
        "this is lib/libc.so.6"
    );
    assert_eq!(verify(&fixture.place()).unwrap().version, "1.0.0");
}

#[test]
fn intact_folder_is_not_changed() {
    let fixture = Fixture::new();
    fixture.make(&Maker::whole()).unwrap();
    let made = fs::metadata(fixture.place()).unwrap().modified().unwrap();
    assert_eq!(
        fixture.make(&Maker::whole()).unwrap().change,
        FolderChange::None
    );
    assert_eq!(
        fs::metadata(fixture.place()).unwrap().modified().unwrap(),
        made
    );
}

#[test]
fn damaged_folder_is_replaced_unless_containers_run_from_it() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 8] = [
        ("a byte is another", |root| {
            fs::write(root.join("lib/libc.so.6"), "this is lib/libc.so.7").unwrap();
        }),
        ("a file is cut", |root| {
            fs::write(root.join("bin/wasmedge-host"), "").unwrap();
        }),
        ("a file is gone", |root| {
            fs::remove_file(root.join("bin/wasmedge-host")).unwrap();
        }),
        ("a library too many", |root| {
            fs::write(root.join("lib/libevil.so"), "").unwrap();
        }),
        ("a program cannot be executed", |root| {
            fs::set_permissions(
                root.join("bin/wasmedge-host"),
                fs::Permissions::from_mode(0o644),
            )
            .unwrap();
        }),
        ("everybody may write", |root| {
            fs::set_permissions(
                root.join("lib/libc.so.6"),
                fs::Permissions::from_mode(0o666),
            )
            .unwrap();
        }),
        ("the manifest is another", |root| {
            fs::write(root.join("share/manifest.json"), "{}").unwrap();
        }),
        ("a file became a link", |root| {
            fs::rename(root.join("lib/libc.so.6"), root.join("lib/other")).unwrap();
            symlink("other", root.join("lib/libc.so.6")).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let mut fixture = Fixture::new();
        fixture.make(&Maker::whole()).unwrap();
        harm(&fixture.place());
        fixture.in_use.insert("1.0.0-0123456789ab".to_owned());
        let error = fixture.make(&Maker::whole()).unwrap_err();
        assert!(
            matches!(error, UnpackError::InUse { .. }) && error.reason() == Reason::InUse,
            "{what}: {error}"
        );
        verify(&fixture.place()).unwrap_err();
        fixture.found().unwrap_err();
        fixture.in_use.clear();
        assert_eq!(
            fixture.make(&Maker::whole()).unwrap().change,
            FolderChange::Repaired,
            "{what}"
        );
        verify(&fixture.place()).unwrap();
        assert_eq!(fixture.names(), ["1.0.0-0123456789ab"], "{what}");
    }
}

#[test]
fn intact_folder_is_found_without_its_archive() {
    let fixture = Fixture::new();
    assert_eq!(
        fixture.found().unwrap_err(),
        Damage::Missing("share/manifest.json".to_owned())
    );
    let made = fixture.make(&Maker::whole()).unwrap();
    let found = fixture.found().unwrap();
    assert_eq!(
        (found.path, found.name, found.version),
        (made.path, made.name, made.version)
    );
    assert_eq!(found.change, FolderChange::None);
}

#[test]
fn file_or_link_in_the_place_of_the_folder_is_replaced() {
    for link in [false, true] {
        let fixture = Fixture::new();
        fs::create_dir_all(fixture.versions()).unwrap();
        if link {
            // A link to a complete runtime, which could be moved.
            let other = Fixture::new();
            other.make(&Maker::whole()).unwrap();
            fs::rename(other.place(), fixture.folder.path().join("elsewhere")).unwrap();
            symlink(fixture.folder.path().join("elsewhere"), fixture.place()).unwrap();
        } else {
            fs::write(fixture.place(), "").unwrap();
        }
        assert_eq!(
            fixture.make(&Maker::whole()).unwrap().change,
            FolderChange::Repaired
        );
        assert!(fs::symlink_metadata(fixture.place()).unwrap().is_dir());
        assert_eq!(fixture.names().len(), 1);
    }
}

#[test]
fn incomplete_folders_are_removed_and_other_versions_stay() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.versions().join(".unpack-x7y/lib")).unwrap();
    fs::write(fixture.versions().join(".unpack-file"), "").unwrap();
    fs::create_dir_all(fixture.versions().join("0.9.0-aaaaaaaaaaaa")).unwrap();
    fs::create_dir_all(fixture.versions().join(".state")).unwrap();
    fixture.make(&Maker::whole()).unwrap();
    let mut names = fixture.names();
    names.sort();
    assert_eq!(
        names,
        [".state", "0.9.0-aaaaaaaaaaaa", "1.0.0-0123456789ab"]
    );
}

#[test]
fn archive_that_contradicts_its_manifest_is_refused() {
    let stray = Maker::whole().after(Raw::file(&format!("{TOP}/lib/libstray.so"), "x"));
    assert!(matches!(
        Fixture::new().refused(&stray),
        UnpackError::Contradiction { .. }
    ));

    let mut changed = Maker::whole();
    let entries = changed.entries();
    let manifest = serde_json::from_slice::<serde_json::Value>(&entries[0].bytes).unwrap();
    changed = changed.manifest("files", manifest["files"].clone());
    let mut cut = changed.clone();
    cut.files
        .get_mut("bin/containerd-shim-wasmedge-v1")
        .unwrap()
        .1
        .truncate(4);
    let error = Fixture::new().refused(&cut);
    assert!(
        matches!(&error,
            UnpackError::Content { damage:
                Damage::Changed(path) } if path.ends_with("shim-wasmedge-v1")),
        "{error:?}"
    );
    changed.files.remove("lib/libc.so.6");
    let error = Fixture::new().refused(&changed);
    assert!(
        matches!(&error,
            UnpackError::Content { damage: Damage::Missing(path) } if path == "lib/libc.so.6"),
        "{error:?}"
    );

    for version in ["2.0.0", "1.0.0/..", ""] {
        assert!(matches!(
            Fixture::new().refused(&Maker::whole().manifest("version", version)),
            UnpackError::Contradiction { .. }
        ));
    }
    for path in ["../x", "/x", "share/manifest.json", "a//b"] {
        let mut files = manifest["files"].clone();
        files[path] = "0".repeat(64).into();
        assert!(
            matches!(
                Fixture::new().refused(&Maker::whole().manifest("files", files)),
                UnpackError::Contradiction { .. }
            ),
            "{path}"
        );
    }
}

#[test]
fn archive_without_launcher_host_or_loader_is_refused() {
    for path in [
        "bin/containerd-shim-wasmedge-v1",
        "bin/wasmedge-host",
        "lib/ld-linux.so.2",
    ] {
        let mut maker = Maker::whole();
        maker.files.remove(path);
        let error = Fixture::new().refused(&maker);
        assert!(error.to_string().contains(path), "{error}");
    }
    let fixture = Fixture::new();
    let archive = write(
        fixture.folder.path(),
        &[Raw::file(&format!("{TOP}/bin/wasmedge-host"), "x")],
    );
    assert!(matches!(
        fixture.unpack(&archive).unwrap_err(),
        UnpackError::NoManifest
    ));
}

#[test]
fn archive_of_another_architecture_is_refused_with_both_names() {
    let error = Fixture::new()
        .refused(&Maker::whole().manifest("architecture", "riscv64"))
        .to_string();
    assert!(
        error.contains("riscv64") && error.contains(std::env::consts::ARCH),
        "{error}"
    );
}

#[test]
fn file_that_is_not_an_archive_is_refused() {
    let fixture = Fixture::new();
    let file = fixture.folder.path().join("archive.tar.gz");
    for bytes in [
        b"".as_slice(),
        b"<html>404</html>",
        &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3],
    ] {
        fs::write(&file, bytes).unwrap();
        let error = fixture.unpack(&file).unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidArtifact, "{error:?}");
    }
    let error = fixture
        .unpack(&fixture.folder.path().join("absent"))
        .unwrap_err();
    assert_eq!(error.reason(), Reason::HostFiles, "{error:?}");
    assert_eq!(fs::read_dir(fixture.versions()).unwrap().count(), 0);
}
