//! Options of an overlay with many layers, made to fit into what mount(2) takes.

use std::path::{Path, PathBuf};

/// mount(2) takes one page of options, with a zero byte at its end. Pages of 4096 bytes are the
/// smallest that there are.
pub(super) const MOST_DATA: usize = 4095;

const LOWER: &str = "lowerdir=";

/// Options that are too long, with the layers named from the folder that they share; that folder.
pub(super) fn shorten(options: Vec<String>) -> (Option<PathBuf>, Vec<String>) {
    let length = options
        .iter()
        .map(|option| option.len() + 1)
        .sum::<usize>()
        .saturating_sub(1);
    if length <= MOST_DATA {
        return (None, options);
    }
    match from_shared_folder(&options) {
        Some((start, shortened)) => (Some(start), shortened),
        None => (None, options),
    }
}

/// The options, with the layers named from the folder that they share; that folder.
pub(super) fn from_shared_folder(options: &[String]) -> Option<(PathBuf, Vec<String>)> {
    let layers = options.iter().find_map(|option| option.strip_prefix(LOWER));
    let start = layers.and_then(shared_folder)?;
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

/// The deepest folder above all layers, if they are absolute.
fn shared_folder(layers: &str) -> Option<PathBuf> {
    let mut layers = layers.split(':').map(Path::new);
    let mut shared = layers.next()?.parent()?;
    for layer in layers {
        while !layer.starts_with(shared) || layer == shared {
            shared = shared.parent()?;
        }
    }
    shared.is_absolute().then(|| shared.to_owned())
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
    fn options_that_fit_stay_as_they_are() {
        assert_eq!(shorten(layers(3)), (None, layers(3)));
    }

    #[test]
    fn layers_that_do_not_fit_are_named_from_the_folder_that_they_share() {
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
        assert!(options.join(",").len() <= MOST_DATA);
    }

    #[test]
    fn relative_layers_are_left_alone() {
        let options = vec![format!("{LOWER}{}", vec!["a/b"; 2000].join(":"))];
        assert_eq!(shorten(options.clone()), (None, options));
    }
}
