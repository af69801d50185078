//! The stand-in for libLLVM: a library of its name that has every symbol that the engine needs and
//! no function.
//!
//! Debian's libwasmedge binds all of its symbols at start, so it does not start without a libLLVM;
//! yet only compiling uses one. The real one, 139 MB, adds 13 ms and 57 MB to the start of a
//! process. A function of the stand-in prints which one was called and aborts: a process without a
//! compiler must never compile.
//!
//! It fits one pair of libwasmedge and libLLVM, so it is made from that pair with the bundle, and
//! never stored alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use testbed::command::Run;

use super::elf::{Elf, Kind, Name, Symbol};

/// Part of the library folder's cache key: raised when the generated code changes.
pub(super) const FORMAT: &str = "1";

/// The message of a stand-in's function before it aborts; the symbol's name follows.
pub(super) const MESSAGE: &str = "fatal: this process has no compiler, yet it called";

/// Makes `file`, named `soname`, from the symbols of `real` that `user` needs.
pub(super) fn make(user: &Elf, real: &Elf, soname: &str, file: &Path) -> Result<()> {
    let symbols = wanted(user, real);
    ensure!(
        !symbols.is_empty(),
        "the engine needs no symbol of {soname}: remove the stand-in from the bundle"
    );
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let write = |name: &str, text: String| {
        fs::write(folder.path().join(name), text).with_context(|| format!("write {name}"))
    };
    write("stand_in.c", source(&symbols)?)?;
    write("stand_in.map", version_script(symbols.keys())?)?;
    // In that folder and with relative names, so that its path cannot affect the result.
    Run::new("cc")
        .current_dir(folder.path())
        .args([
            "-O2",
            "-fPIC",
            "-fno-builtin",
            "-fno-ident",
            "-shared",
            "-o",
            "stand_in.so",
            "stand_in.c",
        ])
        .arg(format!("-Wl,-soname,{soname}"))
        .args([
            "-Wl,--version-script,stand_in.map",
            "-Wl,-z,relro,-z,now,-s",
            "-Wl,--build-id=none",
        ])
        .done()
        .with_context(|| format!("compile the stand-in for {soname}"))?;
    let made = folder.path().join("stand_in.so");
    fs::copy(&made, file)
        .with_context(|| format!("copy {} to {}", made.display(), file.display()))?;
    let given = super::elf::read(file)?.given;
    let missing: Vec<&str> = symbols
        .keys()
        .filter(|name| !given.contains_key(name))
        .map(|name| name.symbol.as_str())
        .collect();
    ensure!(
        missing.is_empty(),
        "the stand-in for {soname} lacks {}",
        missing.join(" ")
    );
    Ok(())
}

/// Returns the symbols that `user` needs with a version of `real`, with the kind and size that they
/// have there.
fn wanted(user: &Elf, real: &Elf) -> BTreeMap<Name, Option<Symbol>> {
    let versions: BTreeSet<&str> = real
        .given
        .keys()
        .map(|name| name.version.as_str())
        .filter(|version| !version.is_empty())
        .collect();
    let names = user
        .wanted
        .keys()
        .filter(|name| versions.contains(name.version.as_str()));
    names
        .map(|name| (name.clone(), real.given.get(name).copied()))
        .collect()
}

fn source(symbols: &BTreeMap<Name, Option<Symbol>>) -> Result<String> {
    let mut code = format!(
        "#include <stdlib.h>\n#include <unistd.h>\n\
         #define REFUSE(name) do \
         {{ static const char text[] = \"{MESSAGE} \" name \"\\n\"; \\\n    \
         if (write(2, text, sizeof text - 1) < 0) abort(); abort(); }} while (0)\n\
         static void virtual_function(void) {{ REFUSE(\"a virtual function\"); }}\n"
    );
    for (index, (name, symbol)) in symbols.iter().enumerate() {
        let Name { symbol: label, .. } = name;
        // The name becomes part of a C program: only characters of mangled names are allowed.
        ensure!(
            label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.$".contains(&byte)),
            "the symbol {label:?} cannot be written into C"
        );
        let Some(Symbol { kind, size }) = symbol else {
            bail!("the real library does not have {label}, which the engine needs")
        };
        let line = match kind {
            Kind::Function => format!(
                "void f{index}(void) __asm__(\"{label}\");\nvoid f{index}(void) \
                 {{ REFUSE(\"{label}\"); }}"
            ),
            Kind::Data if label.starts_with("_ZTV") => vtable(index, label, *size),
            Kind::Data => {
                format!("char d{index}[{size}] __asm__(\"{label}\") __attribute__((aligned(16)));")
            }
            Kind::ThreadLocal => format!(
                "__thread char t{index}[{size}] __asm__(\"{label}\") __attribute__((aligned(16)));"
            ),
            Kind::Other(kind) => bail!(
                "the symbol {label} is of ELF type {kind}, which the generator of the stand-in \
                 does not know"
            ),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(code, "{line}");
    }
    Ok(code)
}

/// Defines a C++ table of virtual functions: two words about the object, then pointers, all to a
/// function that aborts.
fn vtable(index: usize, label: &str, size: u64) -> String {
    let words = usize::try_from(size / 8).unwrap_or_default();
    let entries = (0..words)
        .map(|word| {
            if word < 2 {
                "0"
            } else {
                "(void *)virtual_function"
            }
        })
        .collect::<Vec<_>>()
        .join(", ");
    format!(
        "void *v{index}[{words}] __asm__(\"{label}\");\nvoid *v{index}[{words}] = {{ {entries} }};"
    )
}

fn version_script<'a>(names: impl Iterator<Item = &'a Name>) -> Result<String> {
    let mut nodes: BTreeMap<&str, String> = BTreeMap::new();
    for name in names {
        // Writing to a String cannot fail.
        let _ = writeln!(
            nodes.entry(&name.version).or_default(),
            "    {};",
            name.symbol
        );
    }
    let versions: Vec<String> = nodes.keys().map(|&node| node.to_owned()).collect();
    match (nodes.pop_first(), nodes.is_empty()) {
        (Some((node, symbols)), true) => Ok(format!(
            "{node} {{\n  global:\n{symbols}  local:\n    *;\n}};\n"
        )),
        _ => bail!(
            "the engine needs symbols of the version nodes {versions:?}: the stand-in gives those \
             of one"
        ),
    }
}

#[cfg(test)]
mod tests;
