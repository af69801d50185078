//! Recognition of modules and components by their bytes, never by a file's name.

use std::borrow::Cow;
use std::fmt;

use anyhow::{Context as _, Result, bail};
use wasmparser::{ComponentExternalKind, Parser, Payload, Validator, WasmFeatures};

/// The four bytes that every WebAssembly binary starts with.
const MAGIC: &[u8] = b"\0asm";

/// The two binary formats of WebAssembly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// A core module.
    Module,
    /// A component.
    Component,
}

impl fmt::Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Module => "module",
            Self::Component => "component",
        })
    }
}

/// The imports and exports of a component.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// Names of the imported interfaces and functions.
    pub imports: Vec<String>,
    /// Names of the exported ones.
    pub exports: Vec<String>,
}

/// Returns the format of `bytes`. They are validated with every proposal enabled: whether a runtime
/// supports a proposal is for the runtime to check.
///
/// # Errors
/// Fails if they are not WebAssembly, truncated or invalid; the message has the offset.
pub fn classify(bytes: &[u8]) -> Result<Binary> {
    if !bytes.starts_with(MAGIC) {
        let start = &bytes[..bytes.len().min(MAGIC.len())];
        bail!(
            "not a WebAssembly binary: it starts with the bytes {start:02x?} and not with \
             {MAGIC:02x?}"
        );
    }
    Validator::new_with_features(WasmFeatures::all())
        .validate_all(bytes)
        .context("not valid WebAssembly")?;
    // After the magic bytes the validator accepts only these two.
    Ok(if Parser::is_component(bytes) {
        Binary::Component
    } else {
        Binary::Module
    })
}

/// Returns `source` itself if it is binary, or compiles it if it is WebAssembly text.
///
/// # Errors
/// Fails if it is neither: the error for text has line and column.
pub fn compile_if_text(source: &[u8]) -> Result<Cow<'_, [u8]>> {
    let is_text =
        std::str::from_utf8(source).is_ok_and(|text| text.trim_start().starts_with(['(', ';']));
    if is_text {
        wat::parse_bytes(source).context("compile the WebAssembly text")
    } else {
        Ok(Cow::Borrowed(source))
    }
}

/// Returns the imports and exports of the component in `bytes`, outermost level only.
///
/// # Errors
/// Fails if the bytes cannot be parsed.
pub fn world(bytes: &[u8]) -> Result<World> {
    let mut world = World::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.context("read the component")? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    world
                        .imports
                        .push(import.context("read an import")?.name.0.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export.context("read an export")?;
                    if matches!(
                        export.kind,
                        ComponentExternalKind::Instance | ComponentExternalKind::Func
                    ) {
                        world.exports.push(export.name.0.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(world)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wasm(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn modules_and_components_are_distinguished() {
        assert_eq!(classify(&wasm("(module)")).unwrap(), Binary::Module);
        assert_eq!(classify(&wasm("(component)")).unwrap(), Binary::Component);
    }

    #[test]
    fn non_wasm_bytes_are_refused_by_their_magic() {
        let error = classify(b"\x7fELF and so on").unwrap_err().to_string();
        assert!(error.contains("7f, 45, 4c, 46"), "{error}");
        classify(b"").unwrap_err();
    }

    #[test]
    fn truncated_module_is_refused_with_its_offset() {
        let bytes = wasm("(module (func (export \"_start\") (drop (i32.const 1))))");
        for length in 5..bytes.len() {
            // A cut between two sections gives a valid, smaller module only if no code section is
            // expected.
            if let Err(error) = classify(&bytes[..length]) {
                assert!(format!("{error:#}").contains("offset 0x"), "{error:#}");
            }
        }
        classify(&bytes[..bytes.len() - 1]).unwrap_err();
    }

    #[test]
    fn invalid_module_is_refused_with_its_offset() {
        let error = format!(
            "{:#}",
            classify(&wasm("(module (func (result i32)))")).unwrap_err()
        );
        assert!(error.contains("offset 0x"), "{error}");
    }

    #[test]
    fn wat_text_is_compiled_and_binaries_are_unchanged() {
        assert_eq!(compile_if_text(b"  (module)").unwrap(), wasm("(module)"));
        assert_eq!(
            compile_if_text(b";; a comment\n(module)").unwrap(),
            wasm("(module)")
        );
        assert_eq!(
            compile_if_text(b"\0asm\x01").unwrap().as_ref(),
            b"\0asm\x01"
        );
        let error = format!("{:#}", compile_if_text(b"(module (func").unwrap_err());
        assert!(error.contains(":1:"), "{error}");
    }

    #[test]
    fn world_of_a_component_is_its_outermost_level() {
        let bytes = wasm(
            r#"(component
                (import "wasi:cli/environment@0.2.0" (instance))
                (core module (func (export "inner")))
                (component (import "hidden" (func)))
                (core module $m (func (export "f")))
                (core instance $i (instantiate $m))
                (func $f (canon lift (core func $i "f")))
                (export "run" (func $f)))"#,
        );
        let world = world(&bytes).unwrap();
        assert_eq!(
            world,
            World {
                imports: vec!["wasi:cli/environment@0.2.0".into()],
                exports: vec!["run".into()]
            }
        );
    }
}
