//! Archives that a runtime can come in, and those that somebody else made: on real files, in
//! folders of their own.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use installer_protocol::Reason;
use node_installer::unpack::{Damage, FolderChange, UnpackError, verify};

use crate::maker::{Bed, Maker, Raw, TOP, mode, write};

#[cfg(test)]
mod maker;
#[cfg(test)]
mod hostile;

#[test]
fn a_whole_archive_becomes_a_folder_that_is_named_by_version_and_digest() {
    let bed = Bed::new();
    let unpacked = bed.make(&Maker::whole()).unwrap();
    assert_eq!(
        (unpacked.path, unpacked.version.as_str(), unpacked.change),
        (bed.place(), "1.0.0", FolderChange::Made)
    );
    assert_eq!(bed.names(), [unpacked.name]);
    assert_eq!(mode(&bed.place()), 0o755);
    assert_eq!(
        mode(&bed.place().join("bin/containerd-shim-wasmedge-v1")),
        0o755
    );
    assert_eq!(mode(&bed.place().join("lib/libc.so.6")), 0o644);
    assert_eq!(
        fs::read_to_string(bed.place().join("lib/libc.so")).unwrap(),
        "this is lib/libc.so.6"
    );
    assert_eq!(verify(&bed.place()).unwrap().version, "1.0.0");
}

#[test]
fn a_folder_that_is_whole_is_left_alone() {
    let bed = Bed::new();
    bed.make(&Maker::whole()).unwrap();
    let made = fs::metadata(bed.place()).unwrap().modified().unwrap();
    assert_eq!(
        bed.make(&Maker::whole()).unwrap().change,
        FolderChange::None
    );
    assert_eq!(fs::metadata(bed.place()).unwrap().modified().unwrap(), made);
}

#[test]
fn a_damaged_folder_is_made_anew_unless_containers_run_from_it() {
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
        let mut bed = Bed::new();
        bed.make(&Maker::whole()).unwrap();
        harm(&bed.place());
        bed.in_use.insert("1.0.0-0123456789ab".to_owned());
        let error = bed.make(&Maker::whole()).unwrap_err();
        assert!(
            matches!(error, UnpackError::InUse { .. }) && error.reason() == Reason::InUse,
            "{what}: {error}"
        );
        verify(&bed.place()).unwrap_err();
        bed.found().unwrap_err();
        bed.in_use.clear();
        assert_eq!(
            bed.make(&Maker::whole()).unwrap().change,
            FolderChange::Repaired,
            "{what}"
        );
        verify(&bed.place()).unwrap();
        assert_eq!(bed.names(), ["1.0.0-0123456789ab"], "{what}");
    }
}

#[test]
fn a_whole_folder_is_found_without_its_archive() {
    let bed = Bed::new();
    assert_eq!(
        bed.found().unwrap_err(),
        Damage::Missing("share/manifest.json".to_owned())
    );
    let made = bed.make(&Maker::whole()).unwrap();
    let found = bed.found().unwrap();
    assert_eq!(
        (found.path, found.name, found.version),
        (made.path, made.name, made.version)
    );
    assert_eq!(found.change, FolderChange::None);
}

#[test]
fn what_lies_in_the_place_of_the_folder_is_replaced() {
    for link in [false, true] {
        let bed = Bed::new();
        fs::create_dir_all(bed.versions()).unwrap();
        if link {
            // A link to a whole runtime: whoever moves that would move ours.
            let other = Bed::new();
            other.make(&Maker::whole()).unwrap();
            fs::rename(other.place(), bed.folder.path().join("elsewhere")).unwrap();
            symlink(bed.folder.path().join("elsewhere"), bed.place()).unwrap();
        } else {
            fs::write(bed.place(), "").unwrap();
        }
        assert_eq!(
            bed.make(&Maker::whole()).unwrap().change,
            FolderChange::Repaired
        );
        assert!(fs::symlink_metadata(bed.place()).unwrap().is_dir());
        assert_eq!(bed.names().len(), 1);
    }
}

#[test]
fn what_killed_attempts_left_is_removed_and_other_versions_stay() {
    let bed = Bed::new();
    fs::create_dir_all(bed.versions().join(".unpack-x7y/lib")).unwrap();
    fs::write(bed.versions().join(".unpack-file"), "").unwrap();
    fs::create_dir_all(bed.versions().join("0.9.0-aaaaaaaaaaaa")).unwrap();
    fs::create_dir_all(bed.versions().join(".state")).unwrap();
    bed.make(&Maker::whole()).unwrap();
    let mut names = bed.names();
    names.sort();
    assert_eq!(
        names,
        [".state", "0.9.0-aaaaaaaaaaaa", "1.0.0-0123456789ab"]
    );
}

#[test]
fn an_archive_that_contradicts_its_manifest_is_refused() {
    let stray = Maker::whole().after(Raw::file(&format!("{TOP}/lib/libstray.so"), "x"));
    assert!(matches!(
        Bed::new().refused(&stray),
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
    let error = Bed::new().refused(&cut);
    assert!(
        matches!(&error,
            UnpackError::Content { damage:
                Damage::Changed(path) } if path.ends_with("shim-wasmedge-v1")),
        "{error:?}"
    );
    changed.files.remove("lib/libc.so.6");
    let error = Bed::new().refused(&changed);
    assert!(
        matches!(&error,
            UnpackError::Content { damage: Damage::Missing(path) } if path == "lib/libc.so.6"),
        "{error:?}"
    );

    for version in ["2.0.0", "1.0.0/..", ""] {
        assert!(matches!(
            Bed::new().refused(&Maker::whole().manifest("version", version)),
            UnpackError::Contradiction { .. }
        ));
    }
    for path in ["../x", "/x", "share/manifest.json", "a//b"] {
        let mut files = manifest["files"].clone();
        files[path] = "0".repeat(64).into();
        assert!(
            matches!(
                Bed::new().refused(&Maker::whole().manifest("files", files)),
                UnpackError::Contradiction { .. }
            ),
            "{path}"
        );
    }
}

#[test]
fn an_archive_without_launcher_host_or_loader_is_no_runtime() {
    for path in [
        "bin/containerd-shim-wasmedge-v1",
        "bin/wasmedge-host",
        "lib/ld-linux.so.2",
    ] {
        let mut maker = Maker::whole();
        maker.files.remove(path);
        let error = Bed::new().refused(&maker);
        assert!(error.to_string().contains(path), "{error}");
    }
    let bed = Bed::new();
    let archive = write(
        bed.folder.path(),
        &[Raw::file(&format!("{TOP}/bin/wasmedge-host"), "x")],
    );
    assert!(matches!(
        bed.unpack(&archive).unwrap_err(),
        UnpackError::NoManifest
    ));
}

#[test]
fn another_architectures_archive_is_refused_with_both_names() {
    let error = Bed::new()
        .refused(&Maker::whole().manifest("architecture", "riscv64"))
        .to_string();
    assert!(
        error.contains("riscv64") && error.contains(std::env::consts::ARCH),
        "{error}"
    );
}

#[test]
fn what_is_no_archive_is_refused() {
    let bed = Bed::new();
    let file = bed.folder.path().join("archive.tar.gz");
    for bytes in [
        b"".as_slice(),
        b"<html>404</html>",
        &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3],
    ] {
        fs::write(&file, bytes).unwrap();
        let error = bed.unpack(&file).unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidArtifact, "{error:?}");
    }
    let error = bed.unpack(&bed.folder.path().join("absent")).unwrap_err();
    assert_eq!(error.reason(), Reason::HostFiles, "{error:?}");
    assert_eq!(fs::read_dir(bed.versions()).unwrap().count(), 0);
}
