//! Options of an overlay with many layers, shortened to fit mount(2).

use std::path::{Path, PathBuf};

/// Maximum length of mount(2)'s options: one page with a zero byte at its end. The smallest pages
/// have 4096 bytes.
pub(super) const MAX_DATA: usize = 4095;

const LOWER: &str = "lowerdir=";

/// Shortens options that are too long: layers are named relative to their common folder, which is
/// returned too.
pub(super) fn shorten(options: Vec<String>) -> (Option<PathBuf>, Vec<String>) {
    let length = options
        .iter()
        .map(|option| option.len() + 1)
        .sum::<usize>()
        .saturating_sub(1);
    if length <= MAX_DATA {
        return (None, options);
    }
    match from_common_folder(&options) {
        Some((start, shortened)) => (Some(start), shortened),
        None => (None, options),
    }
}

/// Returns the common folder of the layers, and the options with layers relative to it.
pub(super) fn from_common_folder(options: &[String]) -> Option<(PathBuf, Vec<String>)> {
    let layers = options.iter().find_map(|option| option.strip_prefix(LOWER));
    let start = layers.and_then(common_folder)?;
    let from_start = |layer: &str| {
        Path::new(layer)
            .strip_prefix(&start)
            .map_or(layer.to_owned(), |rest| rest.display().to_string())
    };
    let shortened = options
        .iter()
        .map(|option| match option.strip_prefix(LOWER) {
            Some(layers) => format!(
                "{LOWER}{}",
                layers
                    .split(':')
                    .map(from_start)
                    .collect::<Vec<_>>()
                    .join(":")
            ),
            None => option.clone(),
        });
    let shortened = shortened.collect();
    Some((start, shortened))
}

/// Returns the deepest folder above all layers, if they are absolute.
fn common_folder(layers: &str) -> Option<PathBuf> {
    let mut layers = layers.split(':').map(Path::new);
    let mut common = layers.next()?.parent()?;
    for layer in layers {
        while !layer.starts_with(common) || layer == common {
            common = common.parent()?;
        }
    }
    common.is_absolute().then(|| common.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(count: usize) -> Vec<String> {
        let paths: Vec<_> = (0..count)
            .map(|n| {
                format!(
                    "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/{n}/fs"
                )
            })
            .collect();
        vec![
            "index=off".to_owned(),
            format!("{LOWER}{}", paths.join(":")),
            "upperdir=/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/900/fs"
                .to_owned(),
        ]
    }

    #[test]
    fn fitting_options_are_unchanged() {
        assert_eq!(shorten(layers(3)), (None, layers(3)));
    }

    #[test]
    fn layers_that_do_not_fit_are_named_from_their_common_folder() {
        let (start, options) = shorten(layers(120));
        assert_eq!(
            start.unwrap(),
            Path::new("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots")
        );
        assert!(
            options[1].starts_with("lowerdir=0/fs:1/fs:2/fs:"),
            "{}",
            options[1]
        );
        assert_eq!(options[2], layers(120)[2], "other folders stay absolute");
        assert!(options.join(",").len() <= MAX_DATA);
    }

    #[test]
    fn relative_layers_are_unchanged() {
        let options = vec![format!("{LOWER}{}", vec!["a/b"; 2000].join(":"))];
        assert_eq!(shorten(options.clone()), (None, options));
    }
}
