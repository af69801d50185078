//! Properties of an executable or a library that the bundle depends on: names, needed libraries,
//! symbols and their versions.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use object::elf;
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _, SectionTable, Sym as _};
use object::{Endianness, FileKind};

/// The properties of one file.
#[derive(Debug, Default)]
pub(super) struct Elf {
    /// The interpreter that it needs.
    pub(super) interpreter: Option<String>,
    /// The name by which other files need it.
    pub(super) soname: Option<String>,
    /// The names of the libraries that it needs.
    pub(super) needed: Vec<String>,
    /// The linker's build id, in hexadecimal digits.
    pub(super) build_id: Option<String>,
    /// Symbols that it needs.
    pub(super) wanted: BTreeMap<Name, Symbol>,
    /// Symbols that it provides.
    pub(super) given: BTreeMap<Name, Symbol>,
}

/// A symbol's name and the version that binds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    /// The version node; empty if there is none.
    pub(super) version: String,
    /// The name for the linker.
    pub(super) symbol: String,
}

/// Kind and size of a symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Symbol {
    pub(super) kind: Kind,
    pub(super) size: u64,
}

/// The kind of a symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Function,
    Data,
    ThreadLocal,
    Other(u8),
}

/// Reads `path`.
pub(super) fn read(path: &Path) -> Result<Elf> {
    let data = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let result = match FileKind::parse(&*data) {
        Ok(FileKind::Elf64) => parse::<elf::FileHeader64<Endianness>>(&data),
        Ok(kind) => bail!("{} is {kind:?}, not a 64-bit ELF file", path.display()),
        Err(error) => Err(error.into()),
    };
    result.with_context(|| format!("read {} as an ELF file", path.display()))
}

fn parse<H: FileHeader<Endian = Endianness>>(data: &[u8]) -> Result<Elf> {
    let header = H::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let mut found = Elf::default();
    for segment in header.program_headers(endian, data)? {
        if let Some(interpreter) = segment.interpreter(endian, data)? {
            found.interpreter = Some(text(interpreter)?);
        }
        if let Some(mut notes) = segment.notes(endian, data)? {
            while let Some(note) = notes.next()? {
                if note.n_type(endian) == elf::NT_GNU_BUILD_ID && note.name() == elf::ELF_NOTE_GNU {
                    found.build_id = Some(testbed::cache::hex(note.desc()));
                }
            }
        }
    }
    if let Some((entries, link)) = sections.dynamic(endian, data)? {
        let strings = sections.strings(endian, data, link)?;
        for entry in entries {
            match entry.tag(endian) {
                elf::DT_NEEDED => found.needed.push(text(entry.string(endian, strings)?)?),
                elf::DT_SONAME => found.soname = Some(text(entry.string(endian, strings)?)?),
                _ => {}
            }
        }
    }
    symbols(data, endian, &sections, &mut found)?;
    Ok(found)
}

fn symbols<H: FileHeader<Endian = Endianness>>(
    data: &[u8],
    endian: Endianness,
    sections: &SectionTable<'_, H>,
    found: &mut Elf,
) -> Result<()> {
    let table = sections.symbols(endian, data, elf::SHT_DYNSYM)?;
    let versions = sections.versions(endian, data)?;
    for (index, symbol) in table.enumerate().skip(1) {
        if symbol.st_bind() == elf::STB_LOCAL {
            continue;
        }
        let version = match &versions {
            Some(versions) => versions
                .version(versions.version_index(endian, index).into())?
                .map(|version| text(version.name())),
            None => None,
        };
        let name = Name {
            version: version.transpose()?.unwrap_or_default(),
            symbol: text(symbol.name(endian, table.strings())?)?,
        };
        let kind = match symbol.st_type() {
            elf::STT_FUNC => Kind::Function,
            elf::STT_OBJECT => Kind::Data,
            elf::STT_TLS => Kind::ThreadLocal,
            other => Kind::Other(other.0),
        };
        let facts = Symbol {
            kind,
            size: symbol.st_size(endian).into(),
        };
        if symbol.is_undefined(endian) {
            found.wanted.insert(name, facts);
        } else {
            found.given.insert(name, facts);
        }
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<String> {
    Ok(std::str::from_utf8(bytes)
        .context("a name in it is not UTF-8")?
        .to_owned())
}
