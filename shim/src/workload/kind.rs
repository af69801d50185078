//! Kinds of files, by their bytes and never by their names.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use guest_sandbox::lookup::Inspect;
use serde::{Deserialize, Serialize};

use super::Form;
use super::digest::FileDigest;

/// Number of first bytes that the decision needs, unless they end within white space or a comment.
const HEAD: usize = 4096;
/// Maximum size of a binary guest. CPython, the largest guest seen, has 26 MB.
pub(crate) const MAX_BINARY: u64 = 512 << 20;
/// Maximum size of a text guest: text is written by hand, and costs many times its size to parse.
pub(crate) const MAX_TEXT: u64 = 8 << 20;
/// Number of first bytes that a message shows.
const SHOWN: usize = 8;
/// The mark that some editors put before UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The kind of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ContentKind {
    /// A WebAssembly core module.
    Module,
    /// A WebAssembly component.
    Component,
    /// WebAssembly text.
    Text,
    /// An ELF executable or a script with an interpreter line.
    Native,
    /// Machine code that an engine has compiled, or another library: an ELF file that the kernel
    /// does not execute.
    Library,
    /// WebAssembly of an unknown version of the binary format.
    UnknownVersion(u32),
    /// None of these.
    Other,
}

impl ContentKind {
    /// Returns the form of a guest; none if it is not one.
    fn form(self) -> Option<Form> {
        match self {
            Self::Module => Some(Form::Binary),
            Self::Text => Some(Form::Text),
            Self::Component
            | Self::Native
            | Self::Library
            | Self::UnknownVersion(_)
            | Self::Other => None,
        }
    }
}

/// The kind of a file, with its first bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Start {
    /// The kind.
    pub(crate) kind: ContentKind,
    /// Its first bytes, for messages.
    pub(crate) bytes: Vec<u8>,
}

impl Start {
    /// Reads the start of `file`, which has `size` bytes.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn read(file: &File, size: u64) -> io::Result<Self> {
        let read = |max: u64| {
            let mut bytes = vec![0; usize::try_from(size.min(max)).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, 0).map(|()| bytes)
        };
        let mut head = read(HEAD as u64)?;
        let kind = match Decision::of(&head) {
            Decision::Is(kind) => kind,
            Decision::Open if size <= HEAD as u64 => ContentKind::Other,
            Decision::Open => {
                head = read(MAX_TEXT)?;
                match Decision::of(&head) {
                    Decision::Is(kind) => kind,
                    // It can only be text; its size is refused later.
                    Decision::Open if size > MAX_TEXT => ContentKind::Text,
                    Decision::Open => ContentKind::Other,
                }
            }
        };
        head.truncate(SHOWN);
        Ok(Self { kind, bytes: head })
    }
}

/// The inspection of a file by a look-up process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inspection {
    /// The start of the file.
    pub(crate) start: Start,
    /// The digest of a guest; none of other files, and of a guest above the size limit.
    pub(crate) digest: Option<FileDigest>,
}

impl Inspect for Inspection {
    type Known = Vec<FileDigest>;

    fn inspect(file: &File, size: u64, known: &Vec<FileDigest>) -> io::Result<Self> {
        let start = Start::read(file, size)?;
        let form = start.kind.form().filter(|form| size <= form.max_bytes());
        let digest = form
            .map(|_| FileDigest::of(file, size, known))
            .transpose()?;
        Ok(Self { start, digest })
    }

    fn is_executed(&self) -> bool {
        self.start.kind == ContentKind::Native
    }
}

/// A decision by the first bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// This kind, whatever follows.
    Is(ContentKind),
    /// It depends on the following bytes; at the end of the file it is an unknown kind.
    Open,
}

impl Decision {
    fn of(head: &[u8]) -> Self {
        Self::Is(match head {
            [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => ContentKind::Module,
            // The component model splits the version field: 16 bits version, 16 bits layer, layer 1
            // is a component.
            [0, b'a', b's', b'm', _, _, 1, 0, ..] => ContentKind::Component,
            [0, b'a', b's', b'm', a, b, c, d, ..] => {
                ContentKind::UnknownVersion(u32::from_le_bytes([*a, *b, *c, *d]))
            }
            [0x7f, b'E', b'L', b'F', ..] if is_library(head) => ContentKind::Library,
            [0x7f, b'E', b'L', b'F', ..] | [b'#', b'!', ..] => ContentKind::Native,
            text => return Self::of_text(without_byte_order_mark(text)),
        })
    }

    /// Decides whether the first token after white space and comments opens a text module.
    fn of_text(head: &[u8]) -> Self {
        let mut rest = head.trim_ascii_start();
        loop {
            rest = if let Some(comment) = rest.strip_prefix(b";;") {
                let Some(end) = comment
                    .iter()
                    .position(|byte| matches!(byte, b'\n' | b'\r'))
                else {
                    return Self::Open;
                };
                &comment[end..]
            } else if let Some(comment) = rest.strip_prefix(b"(;") {
                let Some(end) = end_of_block(comment) else {
                    return Self::Open;
                };
                &comment[end..]
            } else {
                break;
            }
            .trim_ascii_start();
        }
        let begins = |word: &[u8], bytes: &[u8]| bytes.starts_with(word) || word.starts_with(bytes);
        let (is_text, is_whole) = match rest.strip_prefix(b"(").map(<[u8]>::trim_ascii_start) {
            Some(word) => (begins(b"module", word), word.len() >= b"module".len()),
            None => (rest.is_empty() || rest == b";", false),
        };
        match (is_text, is_whole) {
            (true, true) => Self::Is(ContentKind::Text),
            (true, false) => Self::Open,
            (false, _) => Self::Is(ContentKind::Other),
        }
    }
}

/// Returns whether an ELF file has no entry point (ELF, `e_entry`), such as WasmEdge's native code,
/// or is of an operating system that is Wasmtime (its `.cwasm`).
fn is_library(head: &[u8]) -> bool {
    /// `ELFOSABI_WASMTIME` of wasmtime-environ.
    const WASMTIME: u8 = 200;
    const CLASS_64: u8 = 2;
    let entry = match head.get(4) {
        Some(&CLASS_64) => head.get(24..32),
        _ => head.get(24..28),
    };
    head.get(7) == Some(&WASMTIME) || entry.is_some_and(|entry| entry.iter().all(|byte| *byte == 0))
}

/// Returns the end of a block comment; `comment` starts after its opening. Such comments nest.
fn end_of_block(comment: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (1_usize, 0);
    while depth > 0 {
        match comment.get(at..at + 2)? {
            b"(;" => (depth, at) = (depth + 1, at + 2),
            b";)" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    Some(at)
}

/// Returns `text` without a byte-order mark at its start.
pub(crate) fn without_byte_order_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::workload::digest::Digest;

    fn kind(bytes: &[u8]) -> ContentKind {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Start::read(&file, bytes.len() as u64).unwrap().kind
    }

    #[test]
    fn bytes_decide_the_kind() {
        for (bytes, expected) in [
            (&b"\0asm\x01\0\0\0"[..], ContentKind::Module),
            (b"\0asm\x0d\0\x01\0", ContentKind::Component),
            (b"\0asm\x02\0\0\0", ContentKind::UnknownVersion(2)),
            (b"\0asm", ContentKind::Other),
            (b"\x7fELF\x02\x01", ContentKind::Native),
            (b"#!/bin/sh\n", ContentKind::Native),
            (b"(module)", ContentKind::Text),
            (
                b"  ;; a comment\n(; another ;)\n( module $m",
                ContentKind::Text,
            ),
            (b";; ends like on old machines\r(module)", ContentKind::Text),
            (b"(; a (; nested ;) comment ;)(module)", ContentKind::Text),
            (b"\xef\xbb\xbf(module)", ContentKind::Text),
            (b"(module)\xef\xbb\xbf", ContentKind::Text),
            (b"(; never closed (module)", ContentKind::Other),
            (b"(; (; closed once ;) (module)", ContentKind::Other),
            (b"(mod", ContentKind::Other),
            (b"(component)", ContentKind::Other),
            (b"hello", ContentKind::Other),
            (b"\xff\xfe(\0m\0", ContentKind::Other),
            (b"", ContentKind::Other),
        ] {
            assert_eq!(kind(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn text_is_recognized_behind_a_comment_of_any_length() {
        for length in (HEAD - 20..HEAD + 20).chain([1 << 20]) {
            let filler = "x".repeat(length);
            for text in [
                format!(";;{filler}\n(module)"),
                format!("(;{filler};)(module)"),
                format!("{}(module)", " ".repeat(length)),
            ] {
                assert_eq!(kind(text.as_bytes()), ContentKind::Text, "{length}");
            }
            assert_eq!(
                kind(format!(";;{filler}\n(func)").as_bytes()),
                ContentKind::Other,
                "{length}"
            );
        }
    }

    #[test]
    fn elf_file_without_an_entry_point_or_of_wasmtime_is_not_a_program() {
        let elf = |class: u8, system: u8, entry: u8| {
            let mut head = [b"\x7fELF\0\x01\x01\0".as_slice(), &[0; 56]].concat();
            (head[4], head[7], head[25]) = (class, system, entry);
            head[32] = 64;
            kind(&head)
        };
        for class in [1, 2] {
            assert_eq!(elf(class, 0, 0x10), ContentKind::Native);
            assert_eq!(elf(class, 3, 0x10), ContentKind::Native);
            assert_eq!(elf(class, 0, 0), ContentKind::Library);
            assert_eq!(elf(class, 200, 0x10), ContentKind::Library);
        }
    }

    #[test]
    fn digest_is_that_of_a_guest_within_the_limit_of_its_form() {
        let inspect = |bytes: &[u8], size: u64| {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(bytes, 0).unwrap();
            file.set_len(size).unwrap();
            Inspection::inspect(&file, size, &Vec::new())
                .unwrap()
                .digest
        };
        let digest = |bytes: &[u8]| inspect(bytes, bytes.len() as u64).map(|known| known.digest);
        for guest in [&b"\0asm\x01\0\0\0"[..], b"(module)"] {
            assert_eq!(digest(guest), Some(Digest::of(guest)));
        }
        for other in [&b"\x7fELF"[..], b"\0asm\x0d\0\x01\0", b"hello"] {
            assert_eq!(digest(other), None);
        }
        assert_eq!(inspect(b"(module)", MAX_TEXT + 1), None);
        assert_eq!(inspect(b"\0asm\x01\0\0\0", MAX_BINARY + 1), None);
    }

    #[test]
    fn file_of_white_space_above_the_limit_of_text_counts_as_text() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![b' '; 9 << 20], 0).unwrap();
        assert_eq!(Start::read(&file, 9 << 20).unwrap().kind, ContentKind::Text);
    }
}
