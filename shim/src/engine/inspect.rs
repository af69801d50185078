//! Imports and exports of a module, read without running it: enough to refuse a module that cannot
//! run with a clear reason.

use wasmparser::{ExternalKind, Parser, Payload, TypeRef};

use super::NotRunnable;
use crate::text::presentable_name;
use crate::workload::START;

/// The function that a WASI reactor exports in place of `_start`.
const INITIALIZE: &str = "_initialize";
/// Maximum number of names in a message.
const MAX_SHOWN: usize = 8;

/// The imports and exported functions of a module.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    /// Each imported item as (module, name).
    imports: Vec<(String, String)>,
    /// Exported functions with the number of their parameters.
    functions: Vec<(String, usize)>,
    has_start: bool,
}

impl Shape {
    /// Reads the sections before a module's code; the engine validates the code.
    ///
    /// # Errors
    /// If a section is malformed.
    pub(crate) fn of(module: &[u8]) -> Result<Self, NotRunnable> {
        Self::read(module).map_err(|error| NotRunnable::Invalid {
            reason: error.to_string(),
        })
    }

    /// Creates the shape of a compiled module from its imports, as (module, name), and its exported
    /// functions with the number of their parameters.
    pub(crate) fn of_parts<'a>(
        imports: impl Iterator<Item = (&'a str, &'a str)>,
        functions: impl Iterator<Item = (&'a str, usize)>,
    ) -> Self {
        Self {
            imports: imports
                .map(|(module, name)| (module.to_owned(), name.to_owned()))
                .collect(),
            functions: functions
                .map(|(name, parameters)| (name.to_owned(), parameters))
                .collect(),
            has_start: false,
        }
    }

    fn read(module: &[u8]) -> wasmparser::Result<Self> {
        let mut shape = Self::default();
        let mut parameters: Vec<usize> = Vec::new();
        let mut functions: Vec<u32> = Vec::new();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(types) => {
                    for group in types {
                        parameters.extend(group?.into_types().map(
                            |ty| match ty.composite_type.inner {
                                wasmparser::CompositeInnerType::Func(function) => {
                                    function.params().len()
                                }
                                _ => 0,
                            },
                        ));
                    }
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import?;
                        if let TypeRef::Func(index) = import.ty {
                            functions.push(index);
                        }
                        shape
                            .imports
                            .push((import.module.to_owned(), import.name.to_owned()));
                    }
                }
                Payload::FunctionSection(types) => {
                    for index in types {
                        functions.push(index?);
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        if export.kind == ExternalKind::Func {
                            let ty = functions
                                .get(export.index as usize)
                                .copied()
                                .unwrap_or(u32::MAX);
                            let count = parameters.get(ty as usize).copied().unwrap_or_default();
                            shape.functions.push((export.name.to_owned(), count));
                        }
                    }
                }
                Payload::StartSection { .. } => shape.has_start = true,
                // Exports and the start come before the code (core specification, "Modules"): a
                // large guest is not read further.
                Payload::CodeSectionStart { .. } => break,
                _ => {}
            }
        }
        Ok(shape)
    }

    /// Refuses imports that do not exist; `exists` is called with module and name.
    ///
    /// # Errors
    /// If an import does not exist.
    pub(crate) fn check_imports(
        &self,
        exists: impl Fn(&str, &str) -> bool,
    ) -> Result<(), NotRunnable> {
        match self.imports_without(exists) {
            None => Ok(()),
            Some(imports) => Err(NotRunnable::UnknownImport { imports }),
        }
    }

    /// Refuses imports that only WasmEdge provides; `exists` is called with module and name.
    ///
    /// # Errors
    /// If an import does not exist.
    pub(crate) fn check_sockets(
        &self,
        exists: impl Fn(&str, &str) -> bool,
    ) -> Result<(), NotRunnable> {
        match self.imports_without(exists) {
            None => Ok(()),
            Some(imports) => Err(NotRunnable::Sockets { imports }),
        }
    }

    /// Returns the list of the imports that do not exist, for a message.
    fn imports_without(&self, exists: impl Fn(&str, &str) -> bool) -> Option<String> {
        let missing: Vec<String> = self
            .imports
            .iter()
            .filter(|(module, name)| !exists(module, name))
            .map(|(module, name)| format!("{module}.{name}"))
            .collect();
        (!missing.is_empty()).then(|| listed(&missing))
    }

    /// Refuses an entry function that is missing or cannot be called.
    ///
    /// # Errors
    /// If it is not exported or takes parameters.
    pub(crate) fn check_function(&self, function: &str) -> Result<(), NotRunnable> {
        match self.functions.iter().find(|(name, _)| name == function) {
            Some((_, 0)) => Ok(()),
            Some(_) => Err(NotRunnable::Parameters {
                function: presentable_name(function),
            }),
            None => {
                let names: Vec<String> = self
                    .functions
                    .iter()
                    .map(|(name, _)| name.clone())
                    .collect();
                let hint = if function == START {
                    "it is a library, not a program; build a command, or name a function as \
                     `path#function`"
                } else {
                    "check the name after `#` in the container's command"
                };
                Err(NotRunnable::NoFunction {
                    function: presentable_name(function),
                    exports: listed(&names),
                    hint,
                })
            }
        }
    }

    /// Returns whether the module has a start function, which instantiation runs.
    pub(crate) fn has_start(&self) -> bool {
        self.has_start
    }

    /// Returns the functions to call for the entry function, in this order.
    pub(crate) fn calls(&self, function: &str) -> Vec<String> {
        let initialize = (self.is_reactor() && function != INITIALIZE).then_some(INITIALIZE);
        let calls = initialize.into_iter().chain([function]);
        calls.map(str::to_owned).collect()
    }

    /// Returns whether `_initialize` must be called before any other function (WASI reactor).
    fn is_reactor(&self) -> bool {
        let exports = |wanted: &str| self.functions.iter().any(|(name, _)| name == wanted);
        exports(INITIALIZE) && !exports(START)
    }
}

/// Lists names for a message: a guest chooses them freely, line ends and escape sequences included.
fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(MAX_SHOWN)
        .map(|name| presentable_name(name))
        .collect();
    match names.len() {
        0 => "none".to_owned(),
        count if count > MAX_SHOWN => {
            format!("{} and {} more", shown.join(", "), count - MAX_SHOWN)
        }
        _ => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Shape {
        Shape::of(&wat::parse_str(text).unwrap()).unwrap()
    }

    #[test]
    fn unknown_import_is_named() {
        let shape = shape(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))) (import "env" "mystery" (func)))"#,
        );
        let exists =
            |module: &str, name: &str| (module, name) == ("wasi_snapshot_preview1", "proc_exit");
        let error = shape.check_imports(exists).unwrap_err();
        assert_eq!(
            error,
            NotRunnable::UnknownImport {
                imports: "env.mystery".to_owned()
            }
        );
    }

    #[test]
    fn names_of_imports_and_exports_are_shown_on_one_line_and_shortened() {
        let long = "n".repeat(90_000);
        let shape = shape(&format!(
            r#"(module (import "a\n\1b[2J" "{long}" (func)) (func (export "\r\u{{202e}}x")))"#
        ));
        let import = shape.check_imports(|_, _| false).unwrap_err().to_string();
        assert!(
            import.contains(r"imports a\n\u{1b}[2J.nnn") && import.len() < 500,
            "{import}"
        );
        let export = shape.check_function("x\ty").unwrap_err().to_string();
        assert!(
            export.contains(r"no function `x\ty` (it exports: \r\u{202e}x)"),
            "{export}"
        );
    }

    #[test]
    fn library_and_wrong_name_get_different_hints() {
        let shape =
            shape(r#"(module (func (export "_initialize")) (func (export "add") (param i32)))"#);
        assert_eq!(shape.calls("add"), ["_initialize", "add"]);
        assert_eq!(shape.calls("_initialize"), ["_initialize"]);
        let text = |function: &str| shape.check_function(function).unwrap_err().to_string();
        assert!(
            text("_start").contains("it is a library")
                && text("_start").contains("_initialize, add"),
            "{}",
            text("_start")
        );
        assert!(text("ad").contains("after `#`"));
        assert!(text("add").contains("takes parameters"));
        assert!(shape.check_function("_initialize").is_ok());
    }

    #[test]
    fn imported_functions_count_in_the_index_space() {
        let shape = shape(
            r#"(module (type $p (func (param i32))) (import "wasi_snapshot_preview1" "proc_exit" (func (type $p))) (func (export "_start")))"#,
        );
        assert_eq!(shape.check_function("_start"), Ok(()));
    }

    #[test]
    fn cut_off_module_is_refused_with_the_place() {
        let whole = wat::parse_str(r#"(module (func (export "_start")))"#).unwrap();
        let error = Shape::of(&whole[..whole.len() / 2]).unwrap_err();
        assert!(
            matches!(error, NotRunnable::Invalid { ref reason } if reason.contains("offset")),
            "{error}"
        );
    }
}
