//! The file that is to contain a handler.

use installer_protocol::ConfigMode;
use installer_protocol::layout::{Configuration, parent};

use super::error::ConfigError;
use super::facts::ConfigFacts;
use super::schema::{self, Schema};
use super::{drop_in, imports};

/// The first line of a main file that k0s merges drop-ins into.
const K0S_MANAGED: &str = "# k0s_managed=true";

/// The files of a handler and their schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    /// The files that change.
    pub(super) target: PlacementFiles,
    /// The schema of the handler's table.
    pub(super) schema: Schema,
}

/// The files that change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PlacementFiles {
    /// The handler is in this file, an existing one or a new main file.
    InPlace {
        /// Its path.
        path: String,
    },
    /// The handler is in a file of its own.
    DropIn {
        /// Its path.
        path: String,
        /// The entry to add to the main file's imports; none if the file is imported already.
        import: Option<String>,
    },
}

impl Placement {
    /// Returns the file that contains the handler.
    pub(super) fn path(&self) -> &str {
        match &self.target {
            PlacementFiles::InPlace { path } | PlacementFiles::DropIn { path, .. } => path,
        }
    }

    /// Returns all files that are edited.
    pub(super) fn paths(&self, main: &str) -> Vec<String> {
        match &self.target {
            PlacementFiles::InPlace { path } | PlacementFiles::DropIn { path, import: None } => {
                vec![path.clone()]
            }
            PlacementFiles::DropIn {
                path,
                import: Some(_),
            } => vec![path.clone(), main.to_owned()],
        }
    }
}

/// Decides the placement of the handler `name`.
pub(super) fn decide(facts: &ConfigFacts, name: &str) -> Result<Placement, ConfigError> {
    let main = match facts.text(&facts.main)? {
        Some(text) => Some(schema::parse(&facts.main, text)?),
        None => None,
    };
    let version = facts.version;
    if (version.major, version.minor) < (1, 6) {
        return Err(ConfigError::TooOld { version });
    }
    if let Some(main) = &main
        && schema::disables_cri(main.as_table())
    {
        return Err(ConfigError::CriDisabled {
            path: facts.main.clone(),
        });
    }
    let schema = match &main {
        Some(main) => Schema::of(&facts.main, main.as_table(), version)?.for_handlers(version),
        None if version.major >= 2 => Schema::Three,
        None => Schema::Two,
    };
    let target = match &facts.configuration {
        Configuration::MainFile => main_file(facts, schema, name)?,
        Configuration::Template => {
            refuse(
                facts,
                ConfigMode::DropIn,
                "the main file is made from a template that imports nothing: set \
                 containerd.mode to InPlace or Auto",
            )?;
            main.ok_or_else(|| absent(facts, "the template"))?;
            PlacementFiles::InPlace {
                path: facts.main.clone(),
            }
        }
        Configuration::Rendered { v2, v3 } => {
            refuse(
                facts,
                ConfigMode::InPlace,
                "the main file is written anew at each start: set containerd.mode to DropIn or \
                 Auto",
            )?;
            main.ok_or_else(|| {
                absent(
                    facts,
                    "the configuration that the distribution writes when it starts",
                )
            })?;
            rendered(facts, if schema >= Schema::Three { v3 } else { v2 }, name)?
        }
        Configuration::Watched { folder } => {
            refuse(
                facts,
                ConfigMode::InPlace,
                "the distribution merges drop-ins into its own main file: set containerd.mode to \
                 DropIn or Auto",
            )?;
            // The schema of the distribution's own configuration; the placeholder may have another.
            let schema = if version.major >= 2 {
                Schema::Three
            } else {
                Schema::Two
            };
            return Ok(Placement {
                target: watched(facts, folder, name)?,
                schema,
            });
        }
    };
    Ok(Placement { target, schema })
}

fn main_file(
    facts: &ConfigFacts,
    schema: Schema,
    name: &str,
) -> Result<PlacementFiles, ConfigError> {
    if facts.version.major < 2 {
        refuse(
            facts,
            ConfigMode::DropIn,
            "containerd 1.x would lose its other runtimes by a drop-in: set containerd.mode to \
             InPlace or Auto",
        )?;
        return Ok(PlacementFiles::InPlace {
            path: in_force(facts, schema)?,
        });
    }
    if facts.mode == ConfigMode::InPlace {
        return Ok(PlacementFiles::InPlace {
            path: facts.main.clone(),
        });
    }
    let own = drop_in::path(&drop_in::own_folder(&facts.main), name);
    let patterns = facts.imports_of(&facts.main)?;
    // Only folders below the main file's are writable.
    let beside = format!("{}/", parent(&facts.main).trim_end_matches('/'));
    let folders = patterns
        .iter()
        .filter(|pattern| pattern.contains('*') && pattern.starts_with(&beside));
    let candidates = folders.filter_map(|pattern| {
        let (folder, _) = imports::parts(pattern)?;
        let path = drop_in::path(folder, name);
        (path != own && imports::covers(pattern, &path)).then_some(path)
    });
    // An existing drop-in stays where it is.
    let mut candidates: Vec<String> = candidates.collect();
    candidates.sort_by_key(|path| !matches!(facts.files.get(path), Some(Some(_))));
    match candidates.into_iter().next() {
        Some(path) if !matches!(facts.files.get(&own), Some(Some(_))) => {
            Ok(PlacementFiles::DropIn { path, import: None })
        }
        _ => Ok(PlacementFiles::DropIn {
            path: own,
            import: Some(drop_in::own_import(&facts.main)),
        }),
    }
}

/// Returns the file with the section of the CRI plugin that is in force in containerd 1.x: the last
/// one with such a section.
fn in_force(facts: &ConfigFacts, schema: Schema) -> Result<String, ConfigError> {
    let direct: Vec<String> = facts
        .imports_of(&facts.main)?
        .iter()
        .filter_map(|pattern| facts.matched_paths(pattern, &[], &[]))
        .flatten()
        .collect();
    for path in facts
        .loaded
        .iter()
        .rev()
        .filter(|path| **path != facts.main)
    {
        let Some(text) = facts.text(path)? else {
            continue;
        };
        if schema::has_cri(schema::parse(path, text)?.as_table(), schema.plugin()) {
            let beside = format!("{}/", parent(&facts.main).trim_end_matches('/'));
            if direct.contains(path) && path.starts_with(&beside) {
                return Ok(path.clone());
            }
            return Err(ConfigError::Elsewhere {
                path: path.clone(),
                main: facts.main.clone(),
            });
        }
    }
    Ok(facts.main.clone())
}

fn rendered(facts: &ConfigFacts, folder: &str, name: &str) -> Result<PlacementFiles, ConfigError> {
    if facts.version.major < 2 {
        return Err(ConfigError::RenderedByOld {
            version: facts.version,
        });
    }
    let path = drop_in::path(folder, name);
    if facts
        .imports_of(&facts.main)?
        .iter()
        .any(|pattern| imports::covers(pattern, &path))
    {
        Ok(PlacementFiles::DropIn { path, import: None })
    } else {
        Err(ConfigError::NotImported {
            main: facts.main.clone(),
            folder: folder.to_owned(),
        })
    }
}

fn watched(facts: &ConfigFacts, folder: &str, name: &str) -> Result<PlacementFiles, ConfigError> {
    let text = facts.text(&facts.main)?.ok_or_else(|| {
        absent(
            facts,
            "the configuration that the distribution writes when it starts",
        )
    })?;
    if text.lines().next().map(str::trim) != Some(K0S_MANAGED) {
        return Err(ConfigError::Unmanaged {
            main: facts.main.clone(),
            line: K0S_MANAGED,
        });
    }
    Ok(PlacementFiles::DropIn {
        path: drop_in::path(folder, name),
        import: None,
    })
}

fn refuse(facts: &ConfigFacts, mode: ConfigMode, why: &'static str) -> Result<(), ConfigError> {
    if facts.mode == mode {
        Err(ConfigError::Mode { mode, why })
    } else {
        Ok(())
    }
}

fn absent(facts: &ConfigFacts, what: &'static str) -> ConfigError {
    ConfigError::Absent {
        path: facts.main.clone(),
        what,
    }
}
