//! apt with a separate state, on the machine's real mirror.

use testbed::apt::{self, Dependencies, Request};
use testbed::cache::Cache;

#[test]
fn package_is_fetched_with_its_dependencies_and_then_cached() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path().to_owned()).unwrap();
    let follow = Request {
        suite: "bookworm",
        packages: &["zlib1g"],
        dependencies: Dependencies::Follow,
    };

    let first = apt::fetch(&cache, &follow).unwrap();
    let names: Vec<_> = first
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    assert!(
        names.contains(&"zlib1g") && names.contains(&"libc6"),
        "{names:?}"
    );
    assert!(
        first
            .packages
            .iter()
            .all(|package| package.sha256.len() == 64 && !package.version.is_empty())
    );
    assert!(first.root.join("usr/share/doc/zlib1g/copyright").exists());
    let zlib = first
        .packages
        .iter()
        .find(|package| package.name == "zlib1g")
        .unwrap()
        .clone();
    assert!(
        zlib.version.starts_with("1:"),
        "the version has no epoch: {}",
        zlib.version
    );

    // Without index and packages, only the cache entry is left.
    std::fs::remove_dir_all(folder.path().join("apt-state")).unwrap();
    let second = apt::fetch(&cache, &follow).unwrap();
    assert_eq!((second.root, second.packages), (first.root, first.packages));
    assert!(
        !folder.path().join("apt-state").exists(),
        "the second call used the network"
    );

    let leave = Request {
        suite: "bookworm",
        packages: &["zlib1g"],
        dependencies: Dependencies::Leave,
    };
    let alone = apt::fetch(&cache, &leave).unwrap();
    assert_eq!(alone.packages.len(), 1);

    let none = Request {
        suite: "bookworm",
        packages: &["no-such-package"],
        dependencies: Dependencies::Follow,
    };
    let error = format!("{:#}", apt::fetch(&cache, &none).unwrap_err());
    assert!(
        error.contains("no-such-package") && error.contains("bookworm"),
        "{error}"
    );
    assert_eq!(
        apt::offered(&cache, "bookworm", "no-such-package").unwrap(),
        None
    );
    assert_eq!(
        apt::offered(&cache, "bookworm", "zlib1g")
            .unwrap()
            .as_deref(),
        Some(zlib.version.as_str())
    );
}
