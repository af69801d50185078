//! The schema version of a configuration file, and its handlers.

use toml_edit::{Document, Item, TableLike};

use super::error::ConfigError;
use super::version::Version;

/// All names that containerd's CRI plugin has had in configuration files.
pub(super) const CRI_PLUGINS: [&str; 3] = [
    "cri",
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.runtime",
];

/// The schema version of a configuration file, from its root key `version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Schema {
    /// No such key, or 0 or 1: plugins have short names.
    One,
    /// containerd 1.x; 2.x reads it too.
    Two,
    /// containerd 2.0 and later.
    Three,
    /// containerd 2.3 and later.
    Four,
}

impl Schema {
    /// Returns the schema of `document`, the file at `path`.
    pub(super) fn of(
        path: &str,
        document: &dyn TableLike,
        containerd: Version,
    ) -> Result<Self, ConfigError> {
        let unknown = |found: &str| ConfigError::Schema {
            path: path.to_owned(),
            found: found.trim().to_owned(),
            containerd,
        };
        let Some(item) = document.get("version") else {
            return Ok(Self::One);
        };
        let schema = match item.as_integer() {
            Some(0 | 1) => Self::One,
            Some(2) => Self::Two,
            Some(3) => Self::Three,
            Some(4) => Self::Four,
            _ => return Err(unknown(&item.to_string())),
        };
        // containerd 1.6 ignores a file with an unknown schema and uses its defaults.
        let (major, minor) = match schema {
            Self::One | Self::Two => (0, 0),
            Self::Three => (2, 0),
            Self::Four => (2, 3),
        };
        if (containerd.major, containerd.minor) < (major, minor) {
            Err(unknown(&item.to_string()))
        } else {
            Ok(schema)
        }
    }

    /// Returns the schema of our handlers for a main file of this one.
    ///
    /// containerd 2.x converts a file without version before it merges it, and 2.0 to 2.2 then lose
    /// a section `cri`.
    pub(super) fn for_handlers(self, containerd: Version) -> Self {
        if self == Self::One && containerd.major >= 2 {
            Self::Three
        } else {
            self
        }
    }

    /// Returns the CRI plugin's name in files of this schema.
    pub(super) fn plugin(self) -> &'static str {
        match self {
            Self::One => "cri",
            Self::Two => "io.containerd.grpc.v1.cri",
            Self::Three | Self::Four => "io.containerd.cri.v1.runtime",
        }
    }

    /// Returns the line with the root key `version`.
    pub(super) fn line(self) -> &'static str {
        match self {
            Self::One => "",
            Self::Two => "version = 2\n",
            Self::Three => "version = 3\n",
            Self::Four => "version = 4\n",
        }
    }
}

/// Parses the text of the file at `path`.
pub(super) fn parse<'a>(path: &str, text: &'a str) -> Result<Document<&'a str>, ConfigError> {
    Document::parse(text).map_err(|source| ConfigError::NotToml {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// Returns the item at these nested keys.
pub(super) fn under<'a>(table: &'a dyn TableLike, keys: &[&str]) -> Option<&'a Item> {
    let (first, rest) = keys.split_first()?;
    let item = table.get(first)?;
    if rest.is_empty() {
        Some(item)
    } else {
        under(item.as_table_like()?, rest)
    }
}

/// As [`under`], mutable.
pub(super) fn under_mut<'a>(table: &'a mut dyn TableLike, keys: &[&str]) -> Option<&'a mut Item> {
    let (first, rest) = keys.split_first()?;
    let item = table.get_mut(first)?;
    if rest.is_empty() {
        Some(item)
    } else {
        under_mut(item.as_table_like_mut()?, rest)
    }
}

/// Returns the names of all handlers in a file, under any name of the CRI plugin.
pub(super) fn handlers(document: &dyn TableLike) -> Vec<String> {
    let tables = CRI_PLUGINS.iter().filter_map(|plugin| {
        under(document, &["plugins", plugin, "containerd", "runtimes"])?.as_table_like()
    });
    tables
        .flat_map(|table| {
            table
                .iter()
                .map(|(name, _)| name.to_owned())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Returns whether a file has a section of the CRI plugin.
pub(super) fn has_cri(document: &dyn TableLike, plugin: &str) -> bool {
    under(document, &["plugins", plugin]).is_some()
}

/// Returns whether a file disables the CRI plugin.
pub(super) fn disables_cri(document: &dyn TableLike) -> bool {
    let disabled = document.get("disabled_plugins").and_then(Item::as_array);
    disabled.is_some_and(|plugins| {
        plugins
            .iter()
            .filter_map(|plugin| plugin.as_str())
            .any(|plugin| CRI_PLUGINS.contains(&plugin))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(text: &str, containerd: &str) -> Result<Schema, String> {
        let document = parse("/c", text).unwrap();
        Schema::of(
            "/c",
            document.as_table(),
            Version::parse(containerd).unwrap(),
        )
        .map_err(|error| error.to_string())
    }

    #[test]
    fn schema_is_the_root_key_and_one_if_it_is_absent() {
        assert_eq!(schema("", "1.7.24"), Ok(Schema::One));
        assert_eq!(schema("version = 1", "2.4.2"), Ok(Schema::One));
        assert_eq!(schema("version = 2", "1.6.20"), Ok(Schema::Two));
        assert_eq!(schema("version = 2", "2.4.2"), Ok(Schema::Two));
        assert_eq!(schema("version = 3", "2.0.0"), Ok(Schema::Three));
        assert_eq!(schema("version = 4", "2.3.0"), Ok(Schema::Four));
        assert_eq!(
            schema("[plugins.x]\nversion = 3", "1.7.24"),
            Ok(Schema::One)
        );
    }

    #[test]
    fn schema_that_the_nodes_containerd_does_not_know_is_refused() {
        for (text, containerd) in [
            ("version = 3", "1.7.24"),
            ("version = 4", "2.2.9"),
            ("version = 5", "2.4.2"),
            ("version = \"2\"", "2.4.2"),
            ("version = -1", "2.4.2"),
        ] {
            let error = schema(text, containerd).unwrap_err();
            assert!(
                error.contains("/c") && error.contains(containerd),
                "{error}"
            );
        }
    }

    #[test]
    fn handlers_are_found_in_tables_inline_tables_and_dotted_keys() {
        for text in [
            "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.a]\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.b]",
            "[plugins]\n\"io.containerd.grpc.v1.cri\" = \
             { containerd = { runtimes = { a = {}, b = { runtime_type = 'x' } } } }",
            "plugins.cri.containerd.runtimes.a.runtime_type = \
             'x'\nplugins.cri.containerd.runtimes.b.runtime_type = 'y'",
        ] {
            assert_eq!(
                handlers(parse("/c", text).unwrap().as_table()),
                ["a", "b"],
                "{text}"
            );
        }
    }

    #[test]
    fn disabled_cri_is_detected_by_either_name() {
        for (text, off) in [
            ("disabled_plugins = [\"cri\"]", true),
            (
                "disabled_plugins = ['io.containerd.snapshotter.v1.zfs', \
                 'io.containerd.grpc.v1.cri']",
                true,
            ),
            ("disabled_plugins = []", false),
            ("", false),
        ] {
            assert_eq!(
                disables_cri(parse("/c", text).unwrap().as_table()),
                off,
                "{text}"
            );
        }
    }
}
