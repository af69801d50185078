//! What some bytes are. Decided by the bytes; a file's name says nothing.

/// How many of a file's first bytes the decision needs: enough for a comment on top of WebAssembly text.
pub const HEAD: usize = 4096;
/// Largest binary guest that is read. CPython, the largest guest seen, has 26 MB.
pub const MAX_BINARY: u64 = 512 << 20;
/// Largest text guest that is read: text is written by hand, and costs many times its size to parse.
pub const MAX_TEXT: u64 = 8 << 20;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A WebAssembly core module.
    Module,
    /// A WebAssembly component.
    Component,
    /// WebAssembly text.
    Text,
    /// An ELF executable or a script with an interpreter line.
    Native,
    /// WebAssembly of an unknown version of the binary format.
    UnknownVersion(u32),
    /// None of these.
    Other,
}

impl Kind {
    /// Decides from a file's first [`HEAD`] bytes (all, if it has fewer).
    pub fn of(head: &[u8]) -> Self {
        match head {
            [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Self::Module,
            // The component model splits the version field: 16 bits version, 16 bits layer, layer 1 is a component.
            [0, b'a', b's', b'm', _, _, 1, 0, ..] => Self::Component,
            [0, b'a', b's', b'm', a, b, c, d, ..] => Self::UnknownVersion(u32::from_le_bytes([*a, *b, *c, *d])),
            [0x7f, b'E', b'L', b'F', ..] | [b'#', b'!', ..] => Self::Native,
            text if is_text(text) => Self::Text,
            _ => Self::Other,
        }
    }
}

/// Whether the first token after white space and comments opens a WebAssembly text module.
fn is_text(head: &[u8]) -> bool {
    let mut rest = head;
    loop {
        rest = rest.trim_ascii_start();
        if let Some(comment) = rest.strip_prefix(b";;") {
            let end = comment.iter().position(|&byte| byte == b'\n').unwrap_or(comment.len());
            rest = &comment[end..];
        } else if let Some(comment) = rest.strip_prefix(b"(;") {
            let Some(end) = comment.windows(2).position(|pair| pair == b";)") else { return false };
            rest = &comment[end + 2..];
        } else {
            break;
        }
    }
    rest.strip_prefix(b"(").map(<[u8]>::trim_ascii_start).is_some_and(|rest| rest.starts_with(b"module"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_decide() {
        for (bytes, kind) in [
            (&b"\0asm\x01\0\0\0"[..], Kind::Module),
            (b"\0asm\x0d\0\x01\0", Kind::Component),
            (b"\0asm\x02\0\0\0", Kind::UnknownVersion(2)),
            (b"\0asm", Kind::Other),
            (b"\x7fELF\x02\x01", Kind::Native),
            (b"#!/bin/sh\n", Kind::Native),
            (b"(module)", Kind::Text),
            (b"  ;; a comment\n(; another ;)\n( module $m", Kind::Text),
            (b"(; never closed (module)", Kind::Other),
            (b"(component)", Kind::Other),
            (b"hello", Kind::Other),
            (b"", Kind::Other),
        ] {
            assert_eq!(Kind::of(bytes), kind, "{}", bytes.escape_ascii());
        }
    }
}
