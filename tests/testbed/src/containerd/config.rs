//! The configuration file of a private containerd: its own folders and socket, no CRI, nothing shared with the machine.

use std::path::Path;

use super::install::Schema;

/// The file's text, for a containerd that keeps all it has in `folder`.
pub(super) fn text(schema: Schema, folder: &Path) -> String {
    let folder = folder.display();
    // Beside CRI, which tests of this class do not use: plugins that would touch folders of the machine.
    let (version, disabled) = match schema {
        Schema::Two => (2, &["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing"][..]),
        Schema::Three => (
            3,
            &[
                "io.containerd.grpc.v1.cri",
                "io.containerd.cri.v1.images",
                "io.containerd.cri.v1.runtime",
                "io.containerd.podsandbox.controller.v1.podsandbox",
                "io.containerd.nri.v1.nri",
                "io.containerd.internal.v1.opt",
                "io.containerd.internal.v1.tracing",
            ][..],
        ),
    };
    format!(
        "version = {version}\nroot = \"{folder}/root\"\nstate = \"{folder}/state\"\ndisabled_plugins = {disabled:?}\n\n\
         [grpc]\naddress = \"{folder}/containerd.sock\"\n\n[ttrpc]\naddress = \"{folder}/containerd.sock.ttrpc\"\n\n\
         [debug]\nlevel = \"info\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_toml_of_the_schemas_version() {
        for (schema, version) in [(Schema::Two, 2), (Schema::Three, 3)] {
            let parsed: toml::Table = text(schema, Path::new("/run/x")).parse().unwrap();
            assert_eq!(parsed["version"].as_integer(), Some(version));
            assert_eq!(parsed["grpc"]["address"].as_str(), Some("/run/x/containerd.sock"));
        }
    }
}
