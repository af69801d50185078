//! Rules of the store's folder: each refusal names the path and the reason.

use std::os::unix::fs::{chown, symlink};

use nix::mount::MsFlags;

use super::bounds::on_tmpfs;
use super::*;

fn refused(folder: &Path) -> Unusable {
    let error = Store::open(options(folder)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&folder.display().to_string()) || folder.is_absolute(),
        "{text}"
    );
    error
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn path_that_is_relative_or_climbs_is_refused() {
    for path in ["", "artifacts", "./artifacts", "/", "/var/../artifacts"] {
        let error = refused(Path::new(path));
        assert!(
            matches!(error, Unusable::NotAbsolute(_)),
            "{path}: {error:?}"
        );
    }
}

#[test]
#[ignore = "needs root"]
fn missing_folders_are_made() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("a/b/artifacts");
    Store::open(options(&root)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&root), 0o700);
    assert_eq!(mode(&root.join("v1")), 0o700);
    assert_eq!(mode(&folder.path().join("a/b")) & 0o022, 0);
    Store::open(options(&root)).unwrap();
}

#[test]
#[ignore = "needs root"]
fn link_anywhere_on_the_path_is_refused() {
    let folder = TempDir::new().unwrap();
    let real = folder.path().join("real");
    fs::create_dir_all(real.join("artifacts")).unwrap();
    let link = folder.path().join("link");
    symlink(&real, &link).unwrap();
    for path in [link.clone(), link.join("artifacts")] {
        let error = refused(&path);
        assert!(
            matches!(&error, Unusable::Symlink(at) if *at == link),
            "{error:?}"
        );
    }
    let dangling = folder.path().join("dangling");
    symlink("nothing", &dangling).unwrap();
    let error = refused(&dangling);
    assert!(matches!(error, Unusable::Symlink(_)), "{error:?}");
    for name in ["v1", "v1/entries", "v1/drafts", "v1/locks", "v1/failures"] {
        let root = folder.path().join(name.replace('/', "-"));
        let part = root.join(name);
        fs::create_dir_all(part.parent().unwrap()).unwrap();
        symlink(&real, &part).unwrap();
        let error = refused(&root);
        assert!(
            matches!(&error, Unusable::Symlink(at) if *at == part),
            "{error:?}"
        );
    }
    assert_eq!(fs::read_dir(&real).unwrap().count(), 1);
}

#[test]
#[ignore = "needs root"]
fn file_on_the_path_is_refused() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    for path in [file.clone(), file.join("artifacts")] {
        let error = refused(&path);
        assert!(
            matches!(&error, Unusable::NotAFolder(at) if *at == file),
            "{error:?}"
        );
    }
}

#[test]
#[ignore = "needs root"]
fn folder_that_another_user_could_replace_is_refused() {
    let folder = TempDir::new().unwrap();
    let above = folder.path().join("above");
    let root = above.join("artifacts");
    Store::open(options(&root)).unwrap();
    for part in [&above, &root, &root.join("v1"), &root.join("v1/entries")] {
        let before = fs::metadata(part).unwrap().permissions().mode() & 0o7777;
        for mode in [0o770, 0o707] {
            set_mode(part, mode);
            let error = refused(&root);
            let is_it = matches!(&error, Unusable::WritableByOthers { path, mode: found }
                if path == part && *found == mode);
            assert!(is_it, "{error:?}");
        }
        set_mode(part, before);
        chown(part, Some(1234), None).unwrap();
        let error = refused(&root);
        let is_it = matches!(&error, Unusable::NotRootOwned { path, owner: 1234 } if path == part);
        assert!(is_it, "{error:?}");
        chown(part, Some(0), None).unwrap();
    }
    // In such a folder, other users cannot replace what is root's.
    set_mode(&above, 0o1777);
    Store::open(options(&root)).unwrap();
    set_mode(&root, 0o1777);
    refused(&root);
}

#[test]
#[ignore = "needs root"]
fn file_system_without_execution_or_writing_is_refused() {
    let open = |folder: &Path| refused(&folder.join("artifacts"));
    let error = on_tmpfs(MsFlags::MS_NOEXEC, "size=1m", open);
    assert!(matches!(error, Unusable::NoExec(_)), "{error:?}");
    let error = on_tmpfs(MsFlags::MS_RDONLY, "size=1m", open);
    assert!(matches!(error, Unusable::ReadOnly(_)), "{error:?}");
    let root_itself = |folder: &Path| refused(folder);
    let error = on_tmpfs(MsFlags::MS_RDONLY, "size=1m", root_itself);
    assert!(matches!(error, Unusable::ReadOnly(_)), "{error:?}");
}

#[test]
#[ignore = "needs root"]
fn full_disk_does_not_hide_what_the_store_holds() {
    on_tmpfs(MsFlags::empty(), "size=2m", |folder| {
        let root = folder.join("artifacts");
        let store = Store::open(options(&root)).unwrap();
        drop(publish(&store, &inputs(b"module"), b"code"));
        drop(store);
        let mut filler = File::create(folder.join("filler")).unwrap();
        while filler.write_all(&vec![7; 4096]).is_ok() {}
        let store = Store::open(options(&root)).unwrap();
        assert!(store.find(&inputs(b"module").key()).unwrap().is_some());
        let refused = try_publish(&store, &inputs(b"other"), &vec![7; 100_000]);
        assert!(
            matches!(refused, Err(StoreError::Full { .. })),
            "{refused:?}"
        );
    });
}
