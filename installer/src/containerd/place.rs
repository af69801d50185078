//! Where a handler is to stand.

use installer_protocol::Mode;
use installer_protocol::layout::{Configuration, parent};

use super::error::ConfigError;
use super::facts::Facts;
use super::imports;
use super::schema::{self, Schema};

/// What our drop-ins are called: other programs' files in the same folder are not.
const PREFIX: &str = "wasmedge-runtime-";
/// Our own folder, where the main file imports none that we could use.
const FOLDER: &str = "wasmedge-runtime.d";
/// The first line of a main file that k0s merges drop-ins into.
const K0S_MANAGED: &str = "# k0s_managed=true";

/// Where a handler is to stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// How it gets there.
    pub(super) target: Target,
    /// In which form.
    pub(super) schema: Schema,
}

/// The files that change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// This file, which is read already, or is made as the main file.
    InPlace {
        /// Its path.
        path: String,
    },
    /// A file of its own.
    DropIn {
        /// Its path.
        path: String,
        /// What the main file has to import so that it is read; none where it is.
        import: Option<String>,
    },
}

impl Place {
    /// The file that the handler stands in.
    pub(super) fn path(&self) -> &str {
        match &self.target {
            Target::InPlace { path } | Target::DropIn { path, .. } => path,
        }
    }

    /// Every file that is edited.
    pub(super) fn paths(&self, main: &str) -> Vec<String> {
        match &self.target {
            Target::InPlace { path } | Target::DropIn { path, import: None } => vec![path.clone()],
            Target::DropIn {
                path,
                import: Some(_),
            } => vec![path.clone(), main.to_owned()],
        }
    }
}

/// Decides where the handler `name` is to stand.
pub(super) fn place(facts: &Facts, name: &str) -> Result<Place, ConfigError> {
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
                Mode::DropIn,
                "the main file is made of a template that imports nothing: set containerd.mode to \
                 InPlace or Auto",
            )?;
            main.ok_or_else(|| absent(facts, "the template"))?;
            Target::InPlace {
                path: facts.main.clone(),
            }
        }
        Configuration::Rendered { v2, v3 } => {
            refuse(
                facts,
                Mode::InPlace,
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
                Mode::InPlace,
                "the distribution merges drop-ins into its own main file: set containerd.mode to \
                 DropIn or Auto",
            )?;
            // The form that the distribution's own configuration has, whatever the placeholder
            // says.
            let schema = if version.major >= 2 {
                Schema::Three
            } else {
                Schema::Two
            };
            return Ok(Place {
                target: watched(facts, folder, name)?,
                schema,
            });
        }
    };
    Ok(Place { target, schema })
}

/// The folders in which drop-ins of ours may be.
pub(super) fn folders(main: &str, configuration: &Configuration) -> Vec<String> {
    match configuration {
        Configuration::MainFile => vec![own_folder(main)],
        Configuration::Rendered { v2, v3 } => vec![v2.clone(), v3.clone()],
        Configuration::Watched { folder } => vec![folder.clone()],
        Configuration::Template => Vec::new(),
    }
}

/// What the main file imports for our own folder.
pub(super) fn own_import(main: &str) -> String {
    format!("{}/*.toml", own_folder(main))
}

/// The folder for drop-ins that is nobody else's.
pub(super) fn own_folder(main: &str) -> String {
    format!("{}/{FOLDER}", parent(main).trim_end_matches('/'))
}

/// The path of a handler's drop-in.
pub(super) fn drop_in(folder: &str, name: &str) -> String {
    format!("{folder}/{PREFIX}{name}.toml")
}

fn main_file(facts: &Facts, schema: Schema, name: &str) -> Result<Target, ConfigError> {
    if facts.version.major < 2 {
        refuse(
            facts,
            Mode::DropIn,
            "containerd 1.x would lose its other runtimes by a drop-in: set containerd.mode to \
             InPlace or Auto",
        )?;
        return Ok(Target::InPlace {
            path: in_force(facts, schema)?,
        });
    }
    if facts.mode == Mode::InPlace {
        return Ok(Target::InPlace {
            path: facts.main.clone(),
        });
    }
    let own = drop_in(&own_folder(&facts.main), name);
    let patterns = facts.imports_of(&facts.main)?;
    // Only folders below the main file's can be written.
    let beside = format!("{}/", parent(&facts.main).trim_end_matches('/'));
    let folders = patterns
        .iter()
        .filter(|pattern| pattern.contains('*') && pattern.starts_with(&beside));
    let candidates = folders.filter_map(|pattern| {
        let (folder, _) = imports::parts(pattern)?;
        let path = drop_in(folder, name);
        (path != own && imports::covers(pattern, &path)).then_some(path)
    });
    // Where it is already it stays.
    let mut candidates: Vec<String> = candidates.collect();
    candidates.sort_by_key(|path| !matches!(facts.files.get(path), Some(Some(_))));
    match candidates.into_iter().next() {
        Some(path) if !matches!(facts.files.get(&own), Some(Some(_))) => {
            Ok(Target::DropIn { path, import: None })
        }
        _ => Ok(Target::DropIn {
            path: own,
            import: Some(own_import(&facts.main)),
        }),
    }
}

/// The file whose section of the CRI plugin containerd 1.x uses: of all that it reads, the last
/// that has one.
fn in_force(facts: &Facts, schema: Schema) -> Result<String, ConfigError> {
    let direct: Vec<String> = facts
        .imports_of(&facts.main)?
        .iter()
        .filter_map(|pattern| facts.meant(pattern, &[], &[]))
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

fn rendered(facts: &Facts, folder: &str, name: &str) -> Result<Target, ConfigError> {
    if facts.version.major < 2 {
        return Err(ConfigError::RenderedByOld {
            version: facts.version,
        });
    }
    let path = drop_in(folder, name);
    if facts
        .imports_of(&facts.main)?
        .iter()
        .any(|pattern| imports::covers(pattern, &path))
    {
        Ok(Target::DropIn { path, import: None })
    } else {
        Err(ConfigError::NotImported {
            main: facts.main.clone(),
            folder: folder.to_owned(),
        })
    }
}

fn watched(facts: &Facts, folder: &str, name: &str) -> Result<Target, ConfigError> {
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
    Ok(Target::DropIn {
        path: drop_in(folder, name),
        import: None,
    })
}

fn refuse(facts: &Facts, mode: Mode, why: &'static str) -> Result<(), ConfigError> {
    if facts.mode == mode {
        Err(ConfigError::Mode { mode, why })
    } else {
        Ok(())
    }
}

fn absent(facts: &Facts, what: &'static str) -> ConfigError {
    ConfigError::Absent {
        path: facts.main.clone(),
        what,
    }
}

#[cfg(test)]
mod tests;
